"""The ambassadors of a proxy: which policy answers for which port, made anew when its class or its options change.

An `Engagement` is one object of a policy with what it has got wrong. Connections keep the one they began with; a
reload, or other options, make a new one for the connections to come, and nobody is interrupted. If a policy cannot be
had (no such class, options it does not take), the connections of its service are refused with a reset: an ambassador is
there because it matters where a connection goes, so going just anywhere would be worse than not going at all.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

from cluster.actor.clock import Clock
from proxy.ambassadors.guard import Alarm, Fault, Guard, Standing
from proxy.ambassadors.loading import Catalog, NoSuchPolicy
from proxy.ambassadors.policy import Endpoint, Policy
from proxy.frontend import Frontend
from proxy.routing import Address, Named, Route, RouteKey

RELOAD_EVERY_S = 1.0
"""How often files of policies are looked at."""
TELL_EVERY_S = 60.0
_TELL_REASONS = 100
"""Different reasons that are told of one port in that time; more are not."""

Kind = Literal["Normal", "Warning"]
Tell = Callable[[RouteKey, Kind, str, str], None]
"""Makes an event of a service: type, reason, message."""


class Watcher(Protocol):
    """A connection, as seen from here."""

    def endpoints_changed(self) -> None:
        """The endpoints of its port are others, or their labels."""
        ...


class Engagement:
    """One object of a policy, and how it stands. `guard` is the way to call it and its sessions."""

    def __init__(self, ambassador: Ambassador, name: str, alarm: Alarm, clock: Clock) -> None:
        self.name = name
        self.guard = Guard(alarm, clock, self._slow)
        self.policy: Policy | None = None
        """None: it could not be made."""
        self._ambassador = ambassador
        self._clock = clock
        self._standing = Standing()

    def is_out(self) -> bool:
        """Nothing may be asked of it now."""
        return self.policy is None or self._standing.is_out(self._clock.monotonic())

    def fault(self, fault: Fault) -> None:
        """It did something wrong: counts, tells, and may be out from now on."""
        pause_s = self._standing.fault(self._clock.monotonic(), grave=fault.grave)
        if pause_s is None:
            self._ambassador.tell("Warning", "PolicyFault", f"Policy {self.name}: {fault}; its connection was reset")
        else:
            self._ambassador.tell(
                "Warning",
                "PolicyCutOut",
                f"Policy {self.name} is cut out for {pause_s:.0f} s, connections are refused: {fault}; "
                "a new version of its file, or other options, end that at once",
            )

    def _slow(self, took_s: float) -> None:
        fault = Fault(f"a call took {took_s * 1000:.0f} ms, and everybody waited for it")
        if (pause_s := self._standing.fault(self._clock.monotonic())) is not None:
            message = f"Policy {self.name} is cut out for {pause_s:.0f} s, connections are refused: {fault}"
            self._ambassador.tell("Warning", "PolicyCutOut", message)
        else:
            self._ambassador.tell("Warning", "PolicySlow", f"Policy {self.name}: {fault}")


class Ambassador:
    """Answers for the connections of one port."""

    def __init__(self, office: Ambassadors, key: RouteKey) -> None:
        self._office = office
        self.key = key
        self.endpoints: tuple[Endpoint, ...] = ()
        """Those that are ready."""
        self.watchers: set[Watcher] = set()
        """Connections that want to hear of changes."""
        self.engagement = Engagement(self, "", office.alarm, office.clock)
        """For the connections to come."""
        self._named: Named | None = None
        self._class: type[Policy] | None = None
        self._addresses: tuple[Address, ...] = ()
        self._told: dict[str, float] = {}

    @property
    def named(self) -> Named | None:
        """What the service says."""
        return self._named

    def update(self, route: Route) -> None:
        """Other endpoints, or another policy, from the next connection on."""
        if route.ambassador != self._named:
            self._named = route.ambassador
            self.engage(anew=True)
        if route.addresses != self._addresses:
            self._addresses = route.addresses
            self.endpoints = tuple(_endpoint(address) for address in route.addresses)
            for watcher in list(self.watchers):
                watcher.endpoints_changed()

    def engage(self, *, anew: bool) -> None:
        """Makes the policy, if it is to be made anew or its class is another one now."""
        if self._named is None:
            return
        name = self._named.policy
        engagement = Engagement(self, name, self._office.alarm, self._office.clock)
        try:
            found = self._office.catalog.find(name, engagement.guard)
            if found is self._class and not anew:
                return
            reloaded = self._class is not None and not anew
            self._class = found
            options = dict(self._named.options)
            made = engagement.guard.call(f"{name}({options})", found, options, self._office.rng)
        except (NoSuchPolicy, Fault) as error:
            if self.engagement.policy is None or anew:
                self.engagement = engagement
                self.tell("Warning", "NoPolicy", f"Connections are refused: {error}")
            else:
                self.tell("Warning", "PolicyReloadFailed", f"Policy {name} stays as it was: {error}")
            return
        engagement.policy = made
        self.engagement = engagement
        if reloaded:
            self.tell(
                "Normal", "PolicyReloaded", f"Policy {name} was loaded anew; connections that run keep the old one"
            )

    def tell(self, kind: Kind, reason: str, message: str) -> None:
        """An event of the service; of one reason at most one a minute."""
        now = self._office.clock.monotonic()
        last = self._told.get(reason)
        if last is not None and now - last < TELL_EVERY_S and reason not in ("PolicyCutOut", "PolicyReloaded"):
            return
        if last is None and len(self._told) >= _TELL_REASONS:
            return
        self._told[reason] = now
        self._office.tell(self.key, kind, reason[:63], message[:1000])


class Ambassadors:
    """All of a proxy. Looks at the files of policies once a second, while there is a service that names one."""

    def __init__(
        self,
        directory: Path | None,
        built_in: Mapping[str, Callable[[], type[Policy]]],
        *,
        clock: Clock,
        rng: random.Random,
        tell: Tell,
    ) -> None:
        self.catalog = Catalog(directory, built_in)
        self.clock = clock
        self.rng = rng
        self.tell = tell
        self._alarm: Alarm | None = None
        self._served: dict[RouteKey, Ambassador] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def alarm(self) -> Alarm:
        """Made when the first policy is called; without one, the signal is nobody's."""
        if self._alarm is None:
            self._alarm = Alarm()
        return self._alarm

    def serve(self, frontend: Frontend) -> None:
        """The route of the frontend is new or another one: gives it an ambassador, or takes it away."""
        route = frontend.route
        if route.ambassador is None:
            self.forget(frontend)
            return
        if frontend.ambassador is None:
            frontend.ambassador = self._served[route.key] = Ambassador(self, route.key)
        frontend.ambassador.update(route)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RELOAD_EVERY_S, self._look)

    def forget(self, frontend: Frontend) -> None:
        """It is served no more. Its connections go on."""
        if frontend.ambassador is not None and self._served.get(frontend.route.key) is frontend.ambassador:
            del self._served[frontend.route.key]
        frontend.ambassador = None

    def reload(self) -> None:
        """Takes files that have changed; a new class answers for the connections to come."""
        guard = Guard(self.alarm, self.clock, lambda _: None)
        for module, problem in self.catalog.refresh(guard).items():
            for ambassador in self._served.values():
                if ambassador.named is None or ambassador.named.policy.partition(":")[0] != module:
                    continue
                if problem is None:
                    ambassador.engage(anew=False)
                elif ambassador.engagement.policy is not None:
                    message = f"Policy {ambassador.named.policy} stays as it was: {problem}"
                    ambassador.tell("Warning", "PolicyReloadFailed", message)

    def close(self) -> None:
        """Looks at no files any more. Twice is fine."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._served.clear()
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None

    def _look(self) -> None:
        self._timer = None
        if self._served:
            self._timer = asyncio.get_running_loop().call_later(RELOAD_EVERY_S, self._look)
            self.reload()


def _endpoint(address: Address) -> Endpoint:
    known = address.known
    return Endpoint(
        ip=address.target.ip,
        port=address.target.port,
        name=known.targetRef.name,
        node=known.nodeName,
        labels=MappingProxyType(dict(known.labels)),
        annotations=MappingProxyType(dict(known.annotations)),
    )
