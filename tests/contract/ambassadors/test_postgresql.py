"""The ambassador of PostgreSQL between psql and pgbench and a real server with a streaming replica."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.ambassadors.postgresql import PostgresqlPolicy
from tests.contract.ambassadors.servers import Server, postgres, postgres_binaries, run
from tests.unit.proxy.ambassadors.rig import AmbassadorRig, ambassador_rig

pytestmark = pytest.mark.skipif(
    postgres_binaries() is None or shutil.which("psql") is None,
    reason="PostgreSQL is not installed (.ci/run installs it)",
)
MASTER, REPLICA = {"role": "master"}, {"role": "replica"}
WHERE = "select case when pg_is_in_recovery() then 'replica' else 'master' end"
"""A read that says who answers it."""


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    """A master and its streaming replica; clients are trusted."""
    with ExitStack() as stack:
        master = stack.enter_context(postgres())
        yield master, stack.enter_context(postgres(replica_of=master))


async def psql(it: AmbassadorRig, *lines: str, options: str = "", password: str = "") -> list[str]:
    """What psql prints; each line is sent by itself."""
    return await _psql(it.address.ip, it.address.port, lines, options, password)


async def _psql(ip: str, port: int, lines: tuple[str, ...], options: str = "", password: str = "") -> list[str]:
    out = await run(
        *(
            "psql",
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            ip,
            "-p",
            str(port),
            "-U",
            "podium",
            "postgres",
        ),
        said="".join(f"{line}\n" for line in lines),
        environment={"PGOPTIONS": options, "PGPASSWORD": password},
    )
    return out.split("\n")[:-1]


def serve(it: AmbassadorRig, master: Server, replica: Server, **options: str) -> None:
    it.serve("postgresql", **options)
    it.label((master, MASTER), (replica, REPLICA))  # type: ignore[arg-type]


async def in_step(master: Server, replica: Server) -> None:
    """The replica has everything that the master has now."""
    (place,) = await _psql("127.0.0.1", master.port, ("select pg_current_wal_lsn();",))
    async with asyncio.timeout(20):
        while await _psql("127.0.0.1", replica.port, (f"select pg_last_wal_replay_lsn() >= '{place}';",)) != ["t"]:
            await asyncio.sleep(0.02)


async def test_reads_writes_and_transactions(pair: tuple[Server, Server]) -> None:
    async with ambassador_rig({"postgresql": PostgresqlPolicy}) as it:
        serve(it, *pair)
        assert await psql(it, "create table if not exists t (a int);", "truncate t;") == []
        out = await psql(
            it,
            f"{WHERE};",
            "insert into t values (1);",
            f"{WHERE} union all select '!' where false;",
            "begin;",
            f"{WHERE};",
            "insert into t select a + 1 from t;",
            "select count(*) from t;",
            "commit;",
            f"{WHERE};",
            "select 7;",
        )
        assert out == ["replica", "replica", "master", "2", "replica", "7"]
        await in_step(*pair)
        assert await psql(it, "select count(*) from t;") == ["2"]
        assert it.events == []


async def test_what_keeps_something_with_the_connection_stays_with_it(pair: tuple[Server, Server]) -> None:
    async with ambassador_rig({"postgresql": PostgresqlPolicy}) as it:
        serve(it, *pair)
        out = await psql(
            it, f"{WHERE};", "set work_mem = '5MB';", "show work_mem;", "create temp table mine (a int);",
            "insert into mine values (3);", f"select a, ({WHERE}) from mine;",
        )  # fmt: skip
        assert out == ["replica", "5MB", "3|master"]
        out = await psql(
            it,
            "create table if not exists c (a int);",
            "copy c from stdin;",
            "1",
            "2",
            "\\.",
            "select count(*) > 1 from c;",
        )
        assert out == ["t"]


async def test_a_function_that_writes_behind_a_select_is_asked_of_the_master(pair: tuple[Server, Server]) -> None:
    async with ambassador_rig({"postgresql": PostgresqlPolicy}) as it:
        serve(it, *pair)
        await psql(
            it,
            "create table if not exists secret (a int);",
            "create or replace function writes() returns int language sql volatile as "
            "'insert into secret values (1) returning a';",
        )
        await in_step(*pair)
        assert await psql(it, "select writes();", f"{WHERE};") == ["1", "replica"]
        assert await psql(it, "begin;", "select count(*) from secret;", "commit;") == ["1"]


async def test_errors_and_large_results(pair: tuple[Server, Server]) -> None:
    async with ambassador_rig({"postgresql": PostgresqlPolicy}) as it:
        serve(it, *pair)
        with pytest.raises(AssertionError, match="division by zero"):
            await psql(it, "select 1/0;")
        out = await psql(it, "select repeat('x', 300000), g from generate_series(1, 20) g;", f"{WHERE};")
        assert len(out) == 21
        assert all(len(line) > 300_000 for line in out[:20])
        assert out[20] == "replica"


async def test_who_will_only_read_goes_to_a_replica_altogether(pair: tuple[Server, Server]) -> None:
    async with ambassador_rig({"postgresql": PostgresqlPolicy}) as it:
        serve(it, *pair)
        out = await psql(
            it, "set work_mem = '5MB';", f"{WHERE};", "begin;", f"{WHERE};", "commit;",
            options="-c default_transaction_read_only=on",
        )  # fmt: skip
        assert out == ["replica", "replica"]


async def test_pgbench_through_both_protocols(pair: tuple[Server, Server], tmp_path: Path) -> None:
    if shutil.which("pgbench") is None and not (postgres_binaries() or Path()).joinpath("pgbench").exists():
        pytest.skip("pgbench is not installed")
    pgbench = shutil.which("pgbench") or str((postgres_binaries() or Path()) / "pgbench")
    async with ambassador_rig({"postgresql": PostgresqlPolicy}) as it:
        serve(it, *pair)
        at = ("-h", it.address.ip, "-p", str(it.address.port), "-U", "podium")
        await run(pgbench, *at, "-i", "-s", "1", "-q", "postgres")
        await in_step(*pair)
        for protocol in ("simple", "extended", "prepared"):
            out = await run(pgbench, *at, "-n", "-c", "4", "-t", "60", "-M", protocol, "postgres")
            assert "number of failed transactions: 0" in out, out
            assert "240/240" in out, out
            out = await run(pgbench, *at, "-n", "-S", "-c", "4", "-t", "60", "-M", protocol, "postgres")
            assert "240/240" in out, out
        (tmp_path / "mixed").write_text(
            "update pgbench_tellers set tbalance = tbalance + 1 where tid = 1;\nselect 1;\n"
        )
        out = await run(
            pgbench, *at, "-n", "-c", "3", "-t", "50", "-M", "extended", "-f", str(tmp_path / "mixed"), "postgres"
        )
        assert "150/150" in out, out
        assert it.events == []


async def test_a_cancellation_reaches_the_replica(pair: tuple[Server, Server]) -> None:
    async with ambassador_rig({"postgresql": PostgresqlPolicy}) as it:
        serve(it, *pair)
        sleeping = asyncio.create_task(
            run(
                *("timeout", "-s", "INT", "2", "psql", "-X", "-h", it.address.ip, "-p", str(it.address.port)),
                *("-U", "podium", "-c", "select pg_sleep(100)", "postgres"),
            )
        )
        with pytest.raises(AssertionError, match="canceling statement due to user request"):
            await sleeping


async def test_a_failover_by_labels() -> None:
    with ExitStack() as stack:
        one = stack.enter_context(postgres())
        two = stack.enter_context(postgres(replica_of=one))
        async with ambassador_rig({"postgresql": PostgresqlPolicy}) as it:
            serve(it, one, two)
            await psql(it, "create table t (a int);", "insert into t values (1);")
            await in_step(one, two)
            it.label((two, REPLICA))  # type: ignore[arg-type]
            waiting = asyncio.create_task(psql(it, "insert into t values (2);", "begin;", f"{WHERE};", "commit;"))
            await it.until(lambda: it.stats.held >= 1)
            await _psql("127.0.0.1", two.port, ("select pg_promote();",))
            it.label((two, MASTER))  # type: ignore[arg-type]
            assert await waiting == ["master"]
            assert await psql(it, "select count(*) from t;") == ["2"]


async def test_a_login_that_cannot_be_repeated_keeps_reads_at_the_master() -> None:
    with ExitStack() as stack:
        one = stack.enter_context(postgres(login="scram-sha-256", password="secret"))
        two = stack.enter_context(postgres(replica_of=one, login="scram-sha-256", password="secret"))
        async with ambassador_rig({"postgresql": PostgresqlPolicy}) as it:
            serve(it, one, two)
            assert await psql(it, f"{WHERE};", "select 1;", password="secret") == ["master", "1"]
            assert it.reasons == ["ReplicaNotUsed"]
            read_only = "-c default_transaction_read_only=on"
            assert await psql(it, f"{WHERE};", options=read_only, password="secret") == ["replica"]
            with pytest.raises(AssertionError, match="password authentication failed"):
                await psql(it, f"{WHERE};", password="wrong")


async def test_a_password_in_clear_text_is_repeated() -> None:
    with ExitStack() as stack:
        one = stack.enter_context(postgres(login="password", password="secret"))
        two = stack.enter_context(postgres(replica_of=one, login="password", password="secret"))
        async with ambassador_rig({"postgresql": PostgresqlPolicy}) as it:
            serve(it, one, two)
            assert await psql(it, f"{WHERE};", password="secret") == ["replica"]
            assert it.events == []
