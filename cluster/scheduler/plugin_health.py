"""How the plug-ins of all profiles do: who was cut out comes back in time, and each failure is told once. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.scheduler.profiles import SchedulingProfile


class PluginHealth:
    """See above. `profiles` by name."""

    def __init__(self, profiles: Mapping[str, SchedulingProfile]) -> None:
        self._profiles = profiles
        self._epoch = 0
        """Of all of them, when they were last looked at."""

    def recover(self, now_s: float) -> bool:
        """Lets those come back whose time it is. Returns whether one has gone or come since the last time: then what
        it said is void."""
        plugins = [plugin for profile in self._profiles.values() for plugin in profile.plugins]
        for plugin in plugins:
            plugin.recover(now_s)
        epoch = sum(plugin.epoch for plugin in plugins)
        if epoch == self._epoch:
            return False
        self._epoch = epoch
        return True

    def newly_broken(self) -> list[str]:
        """A sentence for each that was cut out and not told yet."""
        broken = []
        for profile in self._profiles.values():
            for plugin in profile.plugins:
                if plugin.failures > plugin.reported:
                    plugin.reported = plugin.failures
                    broken.append(f"plug-in {plugin.name} of profile {profile.name} is cut out: {plugin.problem}")
        return broken
