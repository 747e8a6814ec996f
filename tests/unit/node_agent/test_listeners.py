"""Two programs want one port: who has it."""

from __future__ import annotations

import os
import socket

import pytest

from node_agent import listeners


@pytest.mark.parametrize(
    ("output", "ports"),
    [
        ("OSError: [Errno 98] Address already in use", []),
        ("[Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use", [8000]),
        ("nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)", [80]),
        ("listen tcp :8080: bind: address already in use", [8080]),
        ("Could not create server TCP listening socket *:6379: bind: Address already in use", [6379]),
        ("Error: listen EADDRINUSE: address already in use :::3000\n  at node:net:1463:16\n  port: 4000", [3000]),
        ("Address already in use\nPort 5000 is in use by another program.", [5000]),
        ("AddrInUse: Os { code: 98 }: [::1]:70000 (os error 98)", []),
        ("listening on 127.0.0.1:80", []),
    ],
)
def test_ports_that_a_program_says_are_taken(output: str, ports: list[int]) -> None:
    assert listeners.ports_in(output) == ports


def test_the_holder_of_a_port() -> None:
    host = "127.171.3.9"  # whoever runs beside this test listens elsewhere
    with socket.create_server((host, 0)) as one, socket.create_server(("::", 0), family=socket.AF_INET6) as two:
        taken, everywhere = one.getsockname()[1], two.getsockname()[1]
        assert listeners.holder_of(host, [1, taken]).startswith(f"port {taken} is held by pid {os.getpid()} (")
        assert listeners.holder_of("127.0.0.9", [everywhere]).startswith(f"port {everywhere} is held by pid")
        assert listeners.holder_of("127.0.0.9", [taken]) == ""
