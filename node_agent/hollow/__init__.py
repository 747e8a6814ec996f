"""Hollow nodes: they register, beat, take pods up and report them Running, and nothing ever runs.

To the master they are what real agents are: the same objects, calls and words, decided by the same pure functions
(`pod_lifecycle`, `status`, `fit`, `node_object`). What is missing is the machine: no process is started, so there are
no logs, no probes that fail, no files. One process plays thousands of them:

    shape.py     what all pods of one specification share: what they claim, how their reports look
    play.py      what a played pod does: a lifecycle that is fed with events that nobody caused
    pod.py       one pod: two numbers while it does what most do, a whole lifecycle when it does not
    node.py      one node: its pods, what they hold, their addresses
    registry.py  registering the nodes, keeping them Ready, removing them
    fleet.py     all of it in one process: watches, hearts, the agenda of what is due, reports
"""
