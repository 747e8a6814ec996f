"""A machine whose users may make no namespaces, as some distributions and containers are: for what is to work there."""

from __future__ import annotations

import sys

_PROGRAM = """
import ctypes, os, sys
uid, gid = os.geteuid(), os.getegid()
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
    sys.exit(77)
for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
for name in ("user", "mnt"):
    with open(f"/proc/sys/user/max_{name}_namespaces", "w") as file:
        file.write("0")
os.execv(sys.argv[1], sys.argv[1:])
"""
NO_NAMESPACE = 77
"""The exit code where even the one cannot be made in which there are no others."""


def without_namespaces(*arguments: str) -> list[str]:
    """The command line that runs Python with these arguments where there are no further namespaces to be had."""
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, sys.executable, *arguments]
