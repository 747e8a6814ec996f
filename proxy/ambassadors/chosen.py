"""The session of a connection whose endpoint was chosen by its first bytes: connects it, and steps aside.

Without mirrors it is spliced as soon as the endpoint answers. With mirrors it stays, since somebody has to say things
twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.ambassadors.policy import (
    Action,
    Choose,
    Close,
    ConnectionInfo,
    EndBackend,
    EndClient,
    Endpoint,
    Open,
    Policy,
    Session,
    Splice,
    ToBackend,
    ToClient,
)

_CHOSEN = "chosen"


class Chosen(Session):
    """Carries out a `Choose`."""

    def __init__(
        self,
        policy: Policy,
        connection: ConnectionInfo,
        first: bytes,
        endpoints: Sequence[Endpoint],
        choice: Choose,
    ) -> None:
        self._policy = policy
        self._connection = connection
        self._first = first
        self._endpoints = endpoints
        self._choice = choice
        self._mirrors = {f"mirror-{number}": endpoint for number, endpoint in enumerate(choice.mirrors)}
        self._begun = False
        self._client_ended = False
        self._backend_ended = False

    def from_client(self, data: bytes) -> Sequence[Action]:
        if self._begun:
            return [ToBackend(name, data) for name in (_CHOSEN, *self._mirrors)]
        self._begun = True
        if self._choice.rewritten is not None:
            data = self._choice.rewritten
        actions: list[Action] = []
        for name in (_CHOSEN, *self._mirrors):
            actions += [Open(name, mirror=name != _CHOSEN), ToBackend(name, data)]
        return [*actions, Splice(_CHOSEN)] if not self._mirrors else actions

    def candidates(self, backend: str, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        if backend != _CHOSEN:
            return [self._mirrors[backend]]
        if endpoints is not self._endpoints:  # others than it was chosen from: chosen anew
            self._endpoints = endpoints
            again = self._policy.open(self._connection, endpoints, self._first)
            return again.candidates if isinstance(again, Choose) else []
        return self._choice.candidates

    def client_ended(self) -> Sequence[Action]:
        self._client_ended = True
        return [Close()] if self._backend_ended else [EndBackend(name) for name in (_CHOSEN, *self._mirrors)]

    def from_backend(self, backend: str, data: bytes) -> Sequence[Action]:
        return [ToClient(data)]

    def backend_ended(self, backend: str) -> Sequence[Action]:
        self._backend_ended = True
        return [Close()] if self._client_ended else [EndClient()]
