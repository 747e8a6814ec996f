"""Placement: which node each pod goes to, and why.

Pods wait in a queue (`queue`); a snapshot of the nodes in arrays (`snapshot`) is kept current by what the informers
hear; a cycle (`cycle`) filters, scores and picks; the actor (`actor`) writes the bindings. `explain` answers the same
question for people. Everything but the actor and the reporter is pure.
"""
