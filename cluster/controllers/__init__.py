"""Controllers: each compares what is wanted with what is, for one kind of thing, and writes the difference.

Decisions (pure)                                  Actors (await what the decisions ask for)
  replication, ranking, expectations                replication_controller
  heartbeats, zones, node_status, taints            node_lifecycle
  evictions, taints                                 taint_eviction
  endpoints                                         endpoints_controller
  garbage                                           garbage_collector
                                                    namespaces

All share informers (`caches`), a shell of workers over a queue (`reconciler`) and what they are given (`context`);
`manager` starts them together. To add a controller: decide in a pure file, name it in the contract in pyproject.toml,
wrap it in an actor over a `Reconciler`, and name that in `manager.CONTROLLERS`.
"""
