"""Policies by name, and files that change while connections run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from cluster.api import ambassadors as api
from proxy.ambassadors.built_in import BUILT_IN
from proxy.ambassadors.guard import Alarm, Guard
from proxy.ambassadors.loading import Catalog, NoSuchPolicy
from proxy.ambassadors.policy import Policy
from tests.unit.proxy.ambassadors.rig import ambassador_rig

GUARD = Guard(Alarm(), SystemClock(), lambda _: None)
HEAD = "from proxy.ambassadors.policy import *\n"


def refusing(text: str) -> str:
    """A policy that says a text to everybody who has said something."""
    return HEAD + (
        "class Mine(Policy):\n"
        "    def open(self, connection, endpoints, first):\n"
        f"        return Refuse({text!r}.encode()) if first else NeedMore()\n"
    )


def write(path: Path, text: str) -> None:
    """As an editor does: another file in its place."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def test_the_names_that_may_be_written_are_those_that_there_are() -> None:
    assert set(BUILT_IN) == set(api.BUILT_IN)
    for name, load in BUILT_IN.items():
        assert issubclass(load(), Policy), name


def test_a_class_of_the_users_own(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, BUILT_IN)
    write(tmp_path / "mine.py", refusing("a"))
    found = catalog.find("mine:Mine", GUARD)
    assert catalog.find("mine:Mine", GUARD) is found
    assert catalog.refresh(GUARD) == {}
    write(tmp_path / "mine.py", refusing("b"))
    assert catalog.refresh(GUARD) == {"mine": None}
    assert catalog.find("mine:Mine", GUARD) is not found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("class Mine: pass", "no class Mine that is a Policy"),
        ("x = 1", "no class Mine"),
        (HEAD + "Mine = 7", "no class Mine"),
        ("class Mine(", "SyntaxError"),
        ("1/0", "ZeroDivisionError"),
        ("import sys; sys.exit(1)", "SystemExit"),
        (HEAD + "class Mine(Policy):\n    interface = 2", "version 2 of the interface; this proxy has 1"),
        ("#" * (1 << 20) + "\n", "more than 1048576 bytes"),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path: Path, text: str | None, message: str) -> None:
    catalog = Catalog(tmp_path, BUILT_IN)
    if text is not None:
        write(tmp_path / "mine.py", text)
    with pytest.raises(NoSuchPolicy, match=message):
        catalog.find("mine:Mine", GUARD)
    write(tmp_path / "mine.py", refusing("now it is fine"))
    assert catalog.refresh(GUARD) == {"mine": None} or text in ("x = 1", "class Mine: pass")
    assert issubclass(catalog.find("mine:Mine", GUARD), Policy)


@pytest.mark.parametrize("name", ["os:PathLike", "../mine:Mine", "a.b:C", "mine", "mine:", ":Mine", "mine:Mine:x", ""])
def test_names_lead_nowhere_but_into_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(NoSuchPolicy):
        Catalog(tmp_path, BUILT_IN).find(name, GUARD)


def test_without_a_directory_there_are_the_built_in_ones_only() -> None:
    with pytest.raises(NoSuchPolicy, match="started without --policies DIR"):
        Catalog(None, BUILT_IN).find("mine:Mine", GUARD)


def test_a_file_that_anybody_may_write_is_not_run(tmp_path: Path) -> None:
    write(tmp_path / "mine.py", refusing("a"))
    (tmp_path / "mine.py").chmod(0o666)
    with pytest.raises(NoSuchPolicy, match="chmod o-w"):
        Catalog(tmp_path, BUILT_IN).find("mine:Mine", GUARD)


async def test_a_change_is_for_the_connections_to_come(tmp_path: Path) -> None:
    async with ambassador_rig(directory=tmp_path) as it:
        write(tmp_path / "mine.py", refusing("old"))
        it.serve("mine:Mine")
        before = await it.connect()
        await it.until(lambda: it.stats.accepted == 1)
        write(tmp_path / "mine.py", refusing("new"))
        it.ambassadors.reload()
        after = await it.connect()
        for client, text in ((before, b"old"), (after, b"new")):
            await client.say(b"x")
            assert await client.hear_all() == text
        assert it.reasons == ["PolicyReloaded"]


async def test_a_file_that_no_longer_loads_changes_nothing(tmp_path: Path) -> None:
    async with ambassador_rig(directory=tmp_path) as it:
        write(tmp_path / "mine.py", refusing("old"))
        it.serve("mine:Mine")
        for text, reasons in (
            ("class Mine(", ["PolicyReloadFailed"]),
            (HEAD + "class Mine(Policy):\n    interface = 9", ["PolicyReloadFailed"]),
        ):
            write(tmp_path / "mine.py", text)
            it.ambassadors.reload()
            client = await it.connect()
            await client.say(b"x")
            assert await client.hear_all() == b"old"
            assert it.reasons == reasons
        write(tmp_path / "mine.py", refusing("new"))
        it.ambassadors.reload()
        client = await it.connect()
        await client.say(b"x")
        assert await client.hear_all() == b"new"


async def test_refused_while_there_is_no_such_policy_and_served_when_there_is(tmp_path: Path) -> None:
    async with ambassador_rig(directory=tmp_path) as it:
        it.serve("mine:Mine")
        assert it.reasons == ["NoPolicy"]
        with pytest.raises(ConnectionResetError):
            await (await it.connect()).hear_all()
        write(tmp_path / "mine.py", refusing("here I am"))
        it.ambassadors.reload()
        client = await it.connect()
        await client.say(b"x")
        assert await client.hear_all() == b"here I am"


async def test_options_that_it_does_not_take(tmp_path: Path) -> None:
    async with ambassador_rig(directory=tmp_path) as it:
        text = refusing("fine") + "    def __init__(self, options, rng):\n        self.n = int(options['n'])\n"
        write(tmp_path / "mine.py", text)
        it.serve("mine:Mine", n="many")
        assert "invalid literal for int()" in it.events[0][1]
        with pytest.raises(ConnectionResetError):
            await (await it.connect()).hear_all()
        it.serve("mine:Mine", n="7")
        client = await it.connect()
        await client.say(b"x")
        assert await client.hear_all() == b"fine"


async def test_a_faulty_policy_is_cut_out_until_there_is_another(tmp_path: Path) -> None:
    async with ambassador_rig(directory=tmp_path) as it:
        write(tmp_path / "mine.py", HEAD + "class Mine(Policy):\n    pass\n")
        it.serve("mine:Mine")
        for _ in range(5):
            with pytest.raises(ConnectionResetError):
                await (await it.connect()).hear_all()
        assert it.reasons == ["PolicyFault", "PolicyCutOut"], it.events
        assert "NotImplementedError" in it.events[0][1]
        write(tmp_path / "mine.py", refusing("better"))
        it.ambassadors.reload()
        client = await it.connect()
        await client.say(b"x")
        assert await client.hear_all() == b"better"
