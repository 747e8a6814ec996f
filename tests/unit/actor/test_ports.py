"""Who listens where, from the kernel's tables."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import psutil
import pytest

from cluster.actor.ports import Listener, first_listener, listening_sockets, sockets_of

_COLUMNS = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
_LISTENS = (
    "   0: {local} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 100 0 0 10 0\n"
)
_WAITS = "   1: 0100007F:1F90 0100007F:BC8A 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0\n"


def test_a_machine_with_many_connections_is_asked_about_its_listeners_only(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    listener = _LISTENS.format(local="0100007F:1F90", inode=4711)
    table.write_text(_COLUMNS + listener + _WAITS + "what comes after the first that does not listen is not read\n")
    assert list(listening_sockets([table])) == [Listener("127.0.0.1", 8080, "4711")]


@pytest.mark.skipif(sys.byteorder == "big", reason="the kernel writes addresses in the machine's byte order")
def test_addresses_of_both_kinds(tmp_path: Path) -> None:
    table = tmp_path / "tcp6"
    locals_ = ("0" * 32 + ":0050", "0" * 16 + "FFFF00000100007F:0051", "0" * 24 + "01000000:0052", "00000000:0053")
    table.write_text(_COLUMNS + "".join(_LISTENS.format(local=local, inode=1) for local in locals_))
    found = list(listening_sockets([table]))
    assert [it[:2] for it in found] == [("::", 80), ("127.0.0.1", 81), ("::1", 82), ("0.0.0.0", 83)]
    assert [it.is_wildcard for it in found] == [True, False, False, True]


def test_a_machine_without_ipv6_or_without_listeners(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(_COLUMNS)
    (tmp_path / "empty").write_text("")
    assert list(listening_sockets([tmp_path / "tcp", tmp_path / "empty", tmp_path / "tcp6"])) == []


def test_a_table_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "tcp").mkdir()
    assert list(listening_sockets([tmp_path / "tcp"])) == []


def test_sockets_of_this_process_and_of_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        inode = str(os.fstat(sock.fileno()).st_ino)
        assert inode in sockets_of(os.getpid())
        host, port = sock.getsockname()
        assert Listener(host, port, inode) in listening_sockets()
    assert inode not in sockets_of(os.getpid())
    assert list(sockets_of(2**22 + 1)) == []


def test_the_first_port_that_is_taken() -> None:
    host = "127.171.3.9"  # whoever runs beside this test listens elsewhere
    with socket.create_server((host, 0)) as one, socket.create_server((host, 0)) as two:
        ports = [one.getsockname()[1], two.getsockname()[1]]
        name = psutil.Process().name()
        assert first_listener(host, [1, *ports]) == (ports[0], f"pid {os.getpid()} ({name})")
        assert first_listener(host, ports[::-1])[0] == ports[1]
        assert first_listener("127.171.3.10", ports) == (0, "")
