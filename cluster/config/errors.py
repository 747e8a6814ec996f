"""A setting, a file or a directory that cannot be used."""

from __future__ import annotations


class ConfigError(Exception):
    """Says what is wrong, where it comes from, and what would be right."""
