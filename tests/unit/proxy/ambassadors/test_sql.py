"""What texts of SQL do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ambassadors.sql import Kind, classify

READ, WRITE, PIN = Kind.READ, Kind.WRITE, Kind.PIN


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SELECT 1", READ),
        ("", READ),
        ("-- nothing", READ),
        ("  /* a /* nested */ comment; DELETE */ select * from t where a = 'it''s; update' -- DROP\n;", READ),
        ("(select 1) union (values (2));", READ),
        ("table t", READ),
        ("with x as (select 1) select * from x", READ),
        ("select $$ insert into t $$, $a$ ; $$ $a$, \"update\", E'it\\'s; delete', $1", READ),
        ("select count(*), my_function(a) from t group by 1; select 2", READ),
        ("SELECT pg_is_in_recovery()", READ),
        ("select pg_sleep(1)", READ),
        ("insert into t values (1)", WRITE),
        ("select 1; delete from t", WRITE),
        ("with x as (delete from t returning *) select * from x", WRITE),
        ("select * from t for update", WRITE),
        ("select * from t for no key update skip locked", WRITE),
        ("select * into u from t", WRITE),
        ("select nextval('s')", WRITE),
        ("select pg_catalog.setval('s', 1)", WRITE),
        ("select \"nextval\"('s')", WRITE),
        ("select pg_switch_wal()", WRITE),
        ("select lo_create(0)", WRITE),
        ("begin", WRITE),
        ("START TRANSACTION READ ONLY", WRITE),
        ("show search_path", WRITE),
        ("explain select 1", WRITE),
        ("create table t (a int)", WRITE),
        ("set local x = 1", WRITE),
        ("set transaction isolation level serializable", WRITE),
        ("declare c cursor for select 1", WRITE),
        ("what is this", WRITE),
        ("select 'unterminated", WRITE),
        ("select $$unterminated", WRITE),
        ("set x = 1", PIN),
        ("SET SESSION AUTHORIZATION bob", PIN),
        ("select 1; set x = 1", PIN),
        ("select set_config('x', 'y', false)", PIN),
        ("prepare p as select 1", PIN),
        ("execute p", PIN),
        ("listen news", PIN),
        ("copy t from stdin", PIN),
        ("create temp table t (a int)", PIN),
        ("create local temporary table t (a int)", PIN),
        ("select 1 into temp t", PIN),
        ("declare c cursor with hold for select 1", PIN),
        ("select pg_advisory_lock(1)", PIN),
        ("select pg_try_advisory_lock(1)", PIN),
        ("do $$ begin set x = 1; end $$", PIN),
        ("call p()", PIN),
        ("discard all", PIN),
        ("select 'a\\'; set x = 1; --'", PIN),
    ],
)
def test_kinds(text: str, kind: Kind) -> None:
    assert classify(text) is kind


@given(st.text(alphabet="se l'\"$;/*-\\aA1(\n", max_size=60))
def test_any_text_has_an_answer_and_what_follows_makes_it_no_less(text: str) -> None:
    assert classify(text) <= classify(f"{text};{text}")


@given(st.text(alphabet="ab ;'\"-*/$", max_size=30).filter(lambda text: "/*" not in text and "*/" not in text))
def test_what_is_quoted_or_commented_does_nothing(text: str) -> None:
    for quoted in (
        "'" + text.replace("'", "''") + "'",
        f"$q${text.replace('$q$', '')}$q$" if not text.endswith("$") else "1",
        f"/* {text} */ 1",
        '"' + text.replace('"', '""') + '"',
    ):
        assert classify(f"select {quoted} from t") is READ, quoted
        assert classify(f"select {quoted} from t; delete from t") is WRITE, quoted
