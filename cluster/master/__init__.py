"""The master: one writer of the versioned state, and the door through which everyone reads, watches and writes it."""
