"""The only room that imports grpc: channels, servers, identities, and errors as statuses.

Nothing here makes a gRPC object or a thread when it is imported: daemons are forked from a parent that has imported
everything. gRPC's own fork handlers are switched off before its first import, for the same reason: they log, they
cost milliseconds, and nobody here forks while a channel is open. What gRPC's core would write to stderr on its own (a
connection that ended) is left out unless someone asks for it: it would stand in the middle of a command's output.
"""

import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
