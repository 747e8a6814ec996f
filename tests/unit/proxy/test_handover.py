"""Listening sockets change hands: the same ones, with who waits in them; or nothing happens at all."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from proxy.handover import HandoverError, HandoverServer, take_over
from proxy.policies import Target
from proxy.routing import Route, RouteKey, ServiceName
from proxy.sockets import Held, ListenSockets, bind

DEADLINE_S = 20.0


def held(count: int = 1, protocol: str = "TCP") -> list[Held]:
    made = []
    for _ in range(count):
        sock = bind(Target("127.0.0.1", 0), protocol, backlog=16)
        made.append(Held(Target(*sock.getsockname()), protocol, [sock]))
    return made


def close(sockets: list[Held]) -> None:
    for one in sockets:
        for sock in one.sockets:
            sock.close()


class Old:
    """The proxy that serves now."""

    def __init__(self, path: Path, sockets: list[Held]) -> None:
        self.taken = asyncio.Event()
        self.server = HandoverServer(path, lambda: sockets, self.taken.set)
        self.server.start()


async def test_many_sockets_of_both_kinds_and_the_word(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    sockets = [*held(450), *held(1, "UDP")]
    old = Old(path, sockets)
    client = socket.create_connection(sockets[0].address)  # waits in the queue of the old one
    taking = await asyncio.to_thread(take_over, path)
    assert [(one.address, one.protocol) for one in taking.sockets] == [(one.address, one.protocol) for one in sockets]
    assert not old.taken.is_set()
    await taking.serving()
    assert old.taken.is_set()
    close(sockets)
    with taking.sockets[0].sockets[0].dup() as copy:
        assert not os.get_blocking(copy.fileno()), "that would hold everybody up who accepts from it"
    accepted, _ = taking.sockets[0].sockets[0].accept()
    accepted.sendall(b"hello")
    assert client.recv(5) == b"hello"
    for sock in (client, accepted):
        sock.close()
    close(taking.sockets)
    await old.server.stop()
    await old.server.stop()


async def test_a_successor_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    sockets = held()
    old = Old(path, sockets)
    for _ in range(2):
        taking = await asyncio.to_thread(take_over, path)
        taking.close()
        close(taking.sockets)
    taking = await asyncio.to_thread(take_over, path)
    await taking.serving()
    assert old.taken.is_set()
    close(taking.sockets)
    close(sockets)
    await old.server.stop()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(HandoverError, match="no proxy to take over from"):
        take_over(tmp_path / "proxy.sock")
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stale.bind(str(tmp_path / "proxy.sock"))
    stale.close()
    with pytest.raises(HandoverError, match="no proxy to take over from"):
        take_over(tmp_path / "proxy.sock")


async def test_other_users_are_refused_on_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "proxy.sock"
    sockets = held()
    old = Old(path, sockets)
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    with pytest.raises(HandoverError):
        await asyncio.to_thread(take_over, path)
    assert not old.taken.is_set()
    await old.server.stop()
    assert not path.exists()
    close(sockets)


async def test_the_socket_of_the_successor_stays(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    old, new = Old(path, []), Old(path, [])
    await old.server.stop()
    assert path.exists()
    await new.server.stop()
    assert not path.exists()


def route(number: int, address: Target) -> Route:
    return Route(RouteKey(ServiceName("default", f"web-{number}"), "80"), address, ())


def test_inherited_sockets_are_used_and_the_rest_is_dropped() -> None:
    inherited = held(2)
    sockets = ListenSockets(1, 16)
    sockets.inherit(inherited)
    ((mine,),) = sockets.obtain(route(1, inherited[0].address))
    assert mine.getsockname() == inherited[0].address, "it could not have been bound: the address is taken"
    sockets.drop_inherited()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(inherited[1].address)
    sockets.release(route(1, inherited[0].address).key)
    socket.create_connection(inherited[0].address).close()  # the copy listens on
    mine.close()
    sockets.close()


@pytest.mark.parametrize(("before", "workers"), [(1, 1), (1, 3), (3, 1), (3, 2), (2, 2)])
def test_every_socket_has_somebody_who_accepts_whatever_the_number_of_workers(before: int, workers: int) -> None:
    first = bind(Target("127.0.0.1", 0), "TCP", backlog=16, shared=True)
    address = Target(*first.getsockname())
    all_of_them = [first, *(bind(address, "TCP", backlog=16, shared=True) for _ in range(before - 1))]
    sockets = ListenSockets(workers, 16)
    sockets.inherit([Held(address, "TCP", [sock]) for sock in all_of_them])
    shares = sockets.obtain(route(1, address))
    assert len(shares) == workers
    assert all(shares)

    def inode(sock: socket.socket) -> int:
        return os.fstat(sock.fileno()).st_ino

    assert {inode(sock) for share in shares for sock in share} == {inode(sock) for sock in all_of_them}
    for share in shares:
        for sock in share:
            sock.close()
    sockets.close()


def test_workers_have_sockets_of_their_own() -> None:
    sockets = ListenSockets(3, 16)
    shares = sockets.obtain(route(1, Target("127.0.0.1", 0)))
    assert len({sock.getsockname() for share in shares for sock in share}) == 1
    assert [len(share) for share in shares] == [1, 1, 1]
    for share in shares:
        share[0].close()
    sockets.close()
