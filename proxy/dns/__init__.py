"""Names: a DNS server for one cluster, after the Kubernetes DNS specification, as a process of its own.

    services, endpoints, namespaces -> records -> Zone -> Responder -> UdpServer, TcpServer -> clients
                                                              |
                                                          Upstream, if asked to

What a name means is decided in `records.py` and `zone.py`, what is answered to a message in `responder.py`: all of them
pure. It is a process beside the proxy's, not a part of it: whatever a question does to it, no connection notices.
"""
