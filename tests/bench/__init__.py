"""Measurements: `python -m tests.bench [--only NAME] [--runs N]`.

Numbers are reported, never asserted: a slow machine is no bug. Where a peer is installed it is measured in the same
run, in turns with ours, so that both see the same machine in the same mood.
"""
