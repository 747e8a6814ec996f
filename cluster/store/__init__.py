"""The versioned state: an append-only, revision-numbered log, its fold in memory, and watches on it.

Only the master imports this. `Store` (store.py) is the door; `version` has the nouns.
"""
