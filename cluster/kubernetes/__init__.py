"""Kubernetes' REST API: the tools that fingers know, on a Podium cluster.

    kubectl  -- HTTPS, JSON -->  cluster.kubernetes  -- gRPC, for its caller -->  master, node agents

It is one more client of the master: what a request asks for is done by the client library, with the identity of who
asks (`authentication.py`), so nothing can be done here that could not be done over gRPC. It keeps no state but
encoded objects (`encoding.py`), which can be thrown away at any time.

    paths.py       what a path names                  bodies.py       what a body says
    resources.py   what is served: the table          negotiation.py  what the caller wants to read
    discovery.py   the table as clients ask for it    openapi.py      the same, for those who check and explain
    reading.py     get, list                          tables.py       as a table for people
    writing.py     create, update, patch, delete      patching.py     the patches
    watching.py    watch                              statuses.py     what went wrong
    server.py      HTTP and TLS                       main.py         flags -> server
"""
