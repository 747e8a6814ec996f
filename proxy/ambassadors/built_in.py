"""The policies that ship, by name. Each is imported when a service first names it: most proxies need none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxy.ambassadors.policy import Policy


def _http() -> type[Policy]:
    from proxy.ambassadors.http import HttpPolicy

    return HttpPolicy


def _postgresql() -> type[Policy]:
    from proxy.ambassadors.postgresql import PostgresqlPolicy

    return PostgresqlPolicy


def _redis() -> type[Policy]:
    from proxy.ambassadors.redis import RedisPolicy

    return RedisPolicy


BUILT_IN: Mapping[str, Callable[[], type[Policy]]] = {"http": _http, "postgresql": _postgresql, "redis": _redis}
"""The same names as in `cluster.api.ambassadors`; a test compares them."""
