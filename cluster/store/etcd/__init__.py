"""The log in etcd: several masters share it, one of them at a time appends to it.

`journal.EtcdJournal` is the door. Decisions are pure and in files of their own: `keys` and `values` say what lies where
and how it is written, `chunks` how records become values and back, `compaction` what is rewritten when the beginning of
the log is forgotten, `election` who leads and until when, `tail` how a follower gets on. What waits for the network:
`front` (where the log ends and who leads), `reader` (the log, forwards, backwards, as of a revision), `writer` (each
change of it a guarded transaction, and what became of that), `term`, `candidate`, `follower`, `sweeper`.
"""
