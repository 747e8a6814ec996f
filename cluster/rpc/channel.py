"""The two connections of a client to one server: one for calls, one for streams.

They are apart because streams use up the number that a connection may carry, after which a call would wait in silence
until its deadline. Both are made when first used, inside the running loop, never at import.
"""

from __future__ import annotations

import grpc
import grpc.aio

from cluster.api.errors import Unavailable
from cluster.rpc import options
from cluster.rpc.identity import Credentials


class Channels:
    """Connections to `address` ("host:port" or "unix:/path"), with mutual TLS."""

    def __init__(self, address: str, credentials: Credentials, *, watchful: bool = False) -> None:
        """`watchful`: a server that has fallen silent is noticed within 3 s instead of 15."""
        self.address = address
        self._further = options.WATCHFUL if watchful else []
        self._credentials = credentials
        self._unary: grpc.aio.Channel | None = None
        self._watch: grpc.aio.Channel | None = None
        self._closed = False

    @property
    def unary(self) -> grpc.aio.Channel:
        """For calls with one answer."""
        if self._unary is None:
            self._unary = self._open(options.UNARY_CHANNEL)
        return self._unary

    @property
    def watch(self) -> grpc.aio.Channel:
        """For streams."""
        if self._watch is None:
            self._watch = self._open(options.WATCH_CHANNEL)
        return self._watch

    async def close(self) -> None:
        """Ends all calls and streams. Twice is fine; afterwards every use raises Unavailable."""
        self._closed = True
        channels = [channel for channel in (self._unary, self._watch) if channel is not None]
        self._unary = self._watch = None
        for channel in channels:
            await channel.close()

    def _open(self, channel_options: options.Options) -> grpc.aio.Channel:
        if self._closed:
            raise Unavailable("the client is closed")
        tls = grpc.ssl_channel_credentials(
            root_certificates=self._credentials.ca,
            private_key=self._credentials.key,
            certificate_chain=self._credentials.certificate,
        )
        return grpc.aio.secure_channel(
            self.address, tls, options=list(dict([*channel_options, *self._further]).items())
        )
