"""The only room that imports grpc: channels, servers, identities, and errors as statuses.

Nothing here makes a gRPC object or a thread when it is imported: daemons are forked from a parent that has imported
everything. gRPC's own fork handlers are switched off before its first import, for the same reason: they log, they
cost milliseconds, and nobody here forks while a channel is open.
"""

import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
