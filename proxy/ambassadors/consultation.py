"""One connection's talk with its policy: every call into it, and what its answers ask for, until that is done.

What a policy asks for is done in its order, and what comes of it (a backend that was connected at once) is told
afterwards, never in the middle: a session is not called while it is being called.

    tell(from_client)    the session answers [Open, ToBackend]    these are to be done now
    Open is done         the backend was connected at once         later(connected)
    ToBackend is done    nothing is left to do                     tell(connected); what it answers is to be done next

It knows nothing of sockets: whoever owns the connection does what is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from proxy.ambassadors import policy as say
from proxy.ambassadors.ambassador import Engagement
from proxy.ambassadors.answers import check_actions, check_decision, check_endpoints
from proxy.ambassadors.chosen import Chosen
from proxy.ambassadors.guard import Fault

_STEPS: Final = 10_000
"""Actions in a row without anything from outside: a policy that answers itself for ever."""


class Consultation:
    """Whatever the policy does wrong is raised, as a Fault."""

    __slots__ = ("_calls", "_engagement", "_info", "_is_over", "_todo", "session")

    def __init__(self, engagement: Engagement, info: say.ConnectionInfo) -> None:
        self._engagement = engagement
        self._info = info
        self.session: say.Session | None = None
        """Once the policy has decided to serve, or whom to connect; until the end."""
        self._todo: deque[say.Action] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        """To be made when the actions before are done. Bounded: one per thing that happened."""
        self._is_over = False

    # --- Calls

    def open(self, endpoints: Sequence[say.Endpoint], first: bytes) -> say.Decision:
        """What shall become of the connection, now that the client has said that. Raises Fault."""
        engagement = self._engagement
        assert engagement.policy is not None
        name = f"{engagement.name}.open"
        decision = engagement.guard.call(name, engagement.policy.open, self._info, endpoints, first)
        check_decision(engagement.name, decision, endpoints)
        return decision

    def begin(self, decision: say.Choose | say.Serve, endpoints: Sequence[say.Endpoint], first: bytes) -> None:
        """The session takes over, and is told what the client has said until now. Raises Fault."""
        if isinstance(decision, say.Choose):
            assert self._engagement.policy is not None
            self.session = Chosen(self._engagement.policy, self._info, first, endpoints, decision)
        else:
            self.session = decision.session
        if first or isinstance(decision, say.Choose):
            self.tell(self.session.from_client, first)

    def tell(self, method: Callable[..., Sequence[say.Action]], *args: object) -> None:
        """Calls the session; its answer joins what is to be done. Not after the end. Raises Fault."""
        if self._is_over:
            return
        actions = self._engagement.guard.call(f"{self._engagement.name}.{method.__name__}", method, *args)
        check_actions(method.__name__, actions)
        self._todo.extend(actions)

    def candidates(self, backend: str, endpoints: Sequence[say.Endpoint]) -> Sequence[say.Endpoint]:
        """Who may be that backend, best first. Raises Fault."""
        assert self.session is not None
        what = f"{self._engagement.name}.candidates"
        found = self._engagement.guard.call(what, self.session.candidates, backend, endpoints)
        check_endpoints("candidates", found, endpoints)
        return found

    # --- What is to be done

    def ask_for(self, *actions: say.Action) -> None:
        """The policy wants this done, without a session that says so."""
        self._todo.extend(actions)

    def later(self, call: Callable[[], None]) -> None:
        """Makes the call when all that is asked for now is done."""
        self._calls.append(call)

    def tell_later(self, method: Callable[..., Sequence[say.Action]], *args: object) -> None:
        """Tells the session when all that is asked for now is done."""
        self._calls.append(lambda: self.tell(method, *args))

    def actions(self) -> Iterator[say.Action]:
        """What is to be done, one after the other, until nothing is, and nothing is to be told. Raises Fault."""
        todo, calls = self._todo, self._calls
        for _ in range(_STEPS):
            if todo:
                yield todo.popleft()
            elif calls:
                calls.popleft()()
            else:
                return
        raise Fault(f"more than {_STEPS} actions in a row")

    def rest_to_client(self, first: bytes) -> bytes:
        """These words for the client, and all others for it that follow at once: one system call, not several."""
        todo = self._todo
        if not (todo and isinstance(todo[0], say.ToClient)):
            return first
        said = [first]
        while todo and isinstance(todo[0], say.ToClient):
            said.append(todo.popleft().data)  # type: ignore[union-attr]
        try:
            return b"".join(said)
        except TypeError:
            raise Fault("was asked to send what are no bytes") from None

    # --- The end

    def stop(self) -> None:
        """Nothing more is asked or done."""
        self._is_over = True
        self._todo.clear()
        self._calls.clear()

    def end(self) -> None:
        """The policy has nothing more to do with the connection, and the session hears so. Twice is fine."""
        self.stop()
        session, self.session = self.session, None
        if session is not None:
            try:
                self._engagement.guard.call(f"{self._engagement.name}.closed", session.closed)
            except Fault as fault:
                self._engagement.fault(fault)
