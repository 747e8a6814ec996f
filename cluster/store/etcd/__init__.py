"""The log in etcd: several masters share it, one of them at a time appends to it.

`journal.EtcdJournal` is the door. Decisions are pure and in files of their own: `keys` and `values` say what lies where
and how it is written, `chunks` how records become values and back, `compaction` what is rewritten when the beginning of
the log is forgotten, `election` who leads and until when, `releases` which etcd to warn of. What waits for the network:
`fence` (one guarded transaction, and what became of it), `reader` (the log, forwards, backwards and at a revision),
`follower`, `term`, `sweeper`.
"""
