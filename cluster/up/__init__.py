"""A whole cluster on one machine: its directory, addresses, certificates, and the process that owns the rest."""
