"""From a timer profile and a file (`--scheduler-config`) to settings and profiles, with their plug-ins."""

from __future__ import annotations

from pathlib import Path

from cluster.config.profiles import Profile
from cluster.config.settings import load
from cluster.scheduler.plugin_loader import find_plugin
from cluster.scheduler.profiles import SchedulingProfile, resolve
from cluster.scheduler.settings import SchedulerSettings


def load_settings(timers: Profile, path: Path | None = None) -> SchedulerSettings:
    """The settings of a timer profile, and of a file, which wins. Raises ConfigError, also for what it says of
    profiles: whatever is wrong is known before anything runs."""
    settings = load(
        SchedulerSettings,
        toml_path=path,
        defaults={
            "backoff_initial_s": timers.scheduler_backoff_initial_s,
            "backoff_max_s": timers.scheduler_backoff_max_s,
        },
    )
    profiles_of(settings, path)
    return settings


def profiles_of(settings: SchedulerSettings, path: Path | None = None) -> dict[str, SchedulingProfile]:
    """The profiles that the settings ask for, by name. Raises ConfigError, which names the file."""
    return resolve(settings.profiles, find_plugin, str(path or ""))
