"""Kubernetes' REST API: the tools that fingers know, on a Podium cluster.

    kubectl  -- HTTPS, JSON or protobuf -->  cluster.kubernetes  -- gRPC, for its caller -->  master, node agents

It is one more client of the master: what a request asks for is done by the client library, with the identity of who
asks (`authentication.py`), so nothing can be done here that could not be done over gRPC. It keeps no state but
encoded objects (`encoding.py`) and which kinds users have defined (`keeper.py`), which can be thrown away at any time.

    paths.py         what a path names                bodies.py          what a body says
    resources.py     a kind as it is served           negotiation.py     what the caller wants to read
    catalog.py       all that is served, at a time    definitions.py     kinds that users define
    keeper.py        keeps the catalog true           jsonpath.py        paths into their objects
    discovery.py     the catalog, as clients ask      openapi.py         the same, for those who check and explain
    gnostic.py       OpenAPI in protobuf, for older clients
    reading.py       get, list                        tables.py          as a table for people
    writing.py       create, update, patch, delete    requested.py       from a request to an object
    subresources.py  binding, eviction, scale         patching.py        the patches
    watching.py      watch                            applying.py        server-side apply
    pod_streams.py   logs, exec, attach               port_forwarding.py ports; both with spdy.py and spdy_exec.py
    encoding.py      objects as JSON                  protobuf.py        and in protobuf, with whole.py
    proxying.py      HTTP to pods and services        proxied.py         where it goes; with tls_line.py
    derived.py       what is made when it is asked    reviews.py         what a caller may do
    views.py         kinds that have a second name    yaml_writer.py     objects as YAML
    server.py        HTTP and TLS                     statuses.py        what went wrong
    callers.py       a client for each caller
"""
