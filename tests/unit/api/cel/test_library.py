"""Functions of Kubernetes' that rules can call, and how properties are called."""

from __future__ import annotations

import datetime
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.cel import library as lib
from cluster.api.cel import library_text as text
from cluster.api.cel.names import escape
from cluster.api.cel.values import duration
from cluster.api.quantities import parse_quantity
from tests.unit.api.cel.rules import TEXT, WHOLE, fields, many, told, with_rules


@pytest.mark.parametrize(
    "rule",
    [
        "[1, 2, 3].sum() == 6 && [1.5, 1.5].sum() == 3.0 && [1u, 2u].sum() == 3u",
        "[duration('1m'), duration('1s')].sum() == duration('61s') && [duration('1m')].min() == duration('60s')",
        "[3, 1, 2].min() == 1 && [3, 1, 2].max() == 3 && ['b', 'a'].max() == 'b'",
        "[timestamp('2026-01-01T00:00:00Z'), timestamp('2025-01-01T00:00:00Z')].max().getFullYear() == 2026",
        "[false, true].isSorted() && !['b', 'a'].isSorted() && [b'a', b'b'].isSorted()",
        "[1, 2, 2, 3].indexOf(2) == 1 && [1, 2, 2, 3].lastIndexOf(2) == 2 && [1].indexOf(5) == -1",
        "[{'a': 1}, {'a': 2}].indexOf({'a': 2}) == 1 && [[1], [2]].lastIndexOf([1]) == 0",
        "'tacocat'.indexOf('ac') == 1 && 'tacocat'.lastIndexOf('at') == 5 && 'tacocat'.indexOf('a', 2) == 5",
        "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''",
        "'123 abc 456'.findAll('[0-9]+') == ['123', '456'] && '1 2 3'.findAll('[0-9]', 2) == ['1', '2']",
        "isURL('https://example.com/path') && isURL('/path') && !isURL('example.com') && !isURL('https://a b/')",
        "url('https://example.com:80/').getHost() == 'example.com:80' && url('/path').getHost() == ''",
        "url('https://[::1]:80/').getHostname() == '::1' && url('https://[::1]:80/').getPort() == '80'",
        "url('https://example.com/path with spaces/').getEscapedPath() == '/path%20with%20spaces/'",
        "url('https://example.com/?k=a&k=b%20c&d=').getQuery() == {'k': ['a', 'b c'], 'd': ['']}",
        "url('https://example.com').getScheme() == 'https' && url('/path').getScheme() == ''",
        "isQuantity('1.3G') && isQuantity('1.3Gi') && !isQuantity('1,3G') && !isQuantity('10000k ')",
        "quantity('50k').asInteger() == 50000 && quantity('500000G').isInteger() && !quantity('0.5').isInteger()",
        "quantity('50.703k').asApproximateFloat() == 50703.0 && quantity('-1').sign() == -1",
        "quantity('200M').compareTo(quantity('0.2G')) == 0 && quantity('1Ki') == quantity('1024')",
        "quantity('50k').add(quantity('20k')) == quantity('70k') && quantity('50k').sub(20000) == quantity('30k')",
        "quantity('50M').isLessThan(quantity('100M')) && !quantity('50M').isGreaterThan(quantity('50M'))",
        "isIP('127.0.0.1') && isIP('::1') && !isIP('::ffff:1.2.3.4') && !isIP('fe80::1%en0') && !isIP('127.0.0.256')",
        "ip('127.0.0.1').family() == 4 && ip('::1').family() == 6 && ip('127.0.0.1').isLoopback()",
        "ip.isCanonical('2001:db8::abcd') && !ip.isCanonical('2001:DB8::ABCD') && string(ip('::0001')) == '::1'",
        "ip('224.0.0.1').isLinkLocalMulticast() && ip('ff02::1').isLinkLocalMulticast() && ip('::').isUnspecified()",
        "ip('169.254.169.254').isLinkLocalUnicast() && ip('192.168.0.1').isGlobalUnicast()",
        "!ip('255.255.255.255').isGlobalUnicast() && ip('2001:db8::abcd') == ip('2001:DB8:0::ABCD')",
        "isCIDR('192.168.0.0/24') && isCIDR('::1/128') && !isCIDR('192.168.0.0/33') && !isCIDR('192.168.0.0')",
        "cidr('192.168.0.0/24').containsIP('192.168.0.1') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
        "!cidr('10.0.0.0/8').containsCIDR('::1/128') && cidr('192.168.0.1/24').ip() == ip('192.168.0.1')",
        "cidr('192.168.0.1/24').masked() == cidr('192.168.0.0/24') && cidr('10.0.0.0/8').prefixLength() == 8",
        "string(cidr('192.168.0.0/24')) == '192.168.0.0/24'",
        "!format.named('nope').hasValue() && format.named('uuid').value().validate('x').value().size() == 1",
        "!format.dns1035Label().validate('a-b').hasValue() && format.dns1035Label().validate('1a').hasValue()",
        "!format.dns1123LabelPrefix().validate('a-').hasValue() && format.dns1123Label().validate('a-').hasValue()",
        "!format.qualifiedName().validate('example.com/a').hasValue() && !format.labelValue().validate('').hasValue()",
        "!format.date().validate('2026-01-02').hasValue() && format.date().validate('2026-13-02').hasValue()",
        "!format.datetime().validate('2026-01-02T03:04:05Z').hasValue() && !format.uri().validate('/a').hasValue()",
        "isSemver('1.0.0') && !isSemver('v1.0.0') && !isSemver('01.0.0') && isSemver('v01.0', true)",
        "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3-rc.1').patch() == 3",
        "semver('1.2.3').compareTo(semver('2.0.0')) < 0 && semver('1.0.0-rc.2').isLessThan(semver('1.0.0-rc.10'))",
        "semver('1.0.0-alpha').isLessThan(semver('1.0.0')) && semver('1.0.0+a') == semver('1.0.0+b')",
        "semver('v1.0', true) == semver('1.0.0') && semver('1.0.0').isGreaterThan(semver('1.0.0-beta'))",
        "'hello'.charAt(1) == 'e' && 'a-b'.split('-') == ['a', 'b'] && 'a-b-c'.split('-', 2) == ['a', 'b-c']",
        "'hello'.substring(1, 3) == 'el' && ' a '.trim() == 'a' && 'aXa'.replace('a', 'b', 1) == 'bXa'",
        "strings.quote('a\"b') == '\"a\\\\\"b\"' && ['a', 'b'].join('/') == 'a/b'",
        "sets.equivalent([1, 2], [2, 1]) && sets.intersects([1], [1, 2]) && !sets.contains([1], [2])",
        "optional.of(1).orValue(2) == 1 && optional.none().or(optional.of(3)).value() == 3",
        "[1, 2].exists(i, v, i == 1 && v == 2) && {'a': 1}.all(k, v, k == 'a' && v == 1)",
        "{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 2) == {'b': 4}",
        "1 < 2 && 1.0 < 2.0 && uint(3) == 3u && double(1) == 1.0 && int('7') == 7 && string(1.5) == '1.5'",
    ],
)
def test_functions(rule: str) -> None:
    assert told(with_rules(fields(x=WHOLE), rule), {"x": 1}) == []


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("self.l.min() == 1", "min called on empty list"),
        ("self.l.max() == 1", "max called on empty list"),
        ("[9223372036854775807, 1].sum() == 0", "integer overflow"),
        ("quantity(self.s).sign() == 1", "is not a quantity"),
        ("quantity('0.5').asInteger() == 1", "cannot convert value to integer"),
        ("ip(self.s).family() == 4", "does not appear to be an IPv4 or IPv6 address"),
        ("cidr(self.s).prefixLength() == 4", "network address parse error"),
        ("url(self.s).getHost() == 'x'", "URL parse error"),
        ("semver(self.s).major() == 1", "is no semantic version"),
        ("'a'.matches(self.s)", "invalid regular expression"),
        ("{'a': 1}.transformMap(k, v, v)[self.s] == 1", "no such key"),
    ],
)
def test_functions_that_have_no_answer(rule: str, why: str) -> None:
    (problem,) = told(with_rules(fields(l=many(WHOLE), s=TEXT), rule), {"l": [], "s": "(["})
    assert why in problem
    assert problem.endswith(f" evaluating rule: {rule}")


numbers = st.lists(st.integers(-50, 50), max_size=8)


@given(numbers, st.integers(-50, 50))
def test_lists_are_counted_as_one_would(items: list[int], wanted: int) -> None:
    assert lib.total(items) == sum(items)
    assert lib.is_sorted(items) == (items == sorted(items))
    assert lib.index_of(items, wanted) == (items.index(wanted) if wanted in items else -1)
    last = len(items) - 1 - items[::-1].index(wanted) if wanted in items else -1
    assert lib.last_index_of(items, wanted) == last


amounts = st.builds(
    "{}{}".format,
    st.integers(-10_000, 10_000) | st.decimals(-99, 99, places=3),
    st.sampled_from(["", "m", "k", "Ki", "G", "Gi"]),
)


@given(amounts, amounts)
def test_amounts_are_compared_exactly(a: str, b: str) -> None:
    one, two = parse_quantity(a), parse_quantity(b)
    assert lib.compare(lib.quantity(a), lib.quantity(b)) == (one > two) - (one < two)
    assert (lib.quantity(a) == lib.quantity(b)) == (one == two)
    assert parse_quantity(lib.plus(lib.quantity(a), lib.quantity(b))) == one + two
    assert lib.sign(lib.minus(lib.quantity(a), lib.quantity(b))) == (one > two) - (one < two)


def test_versions_in_their_order() -> None:
    order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
             "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]  # fmt: skip
    for a, b in pairwise(map(lib.semver, order)):
        assert lib.compare(a, b) == -1
        assert lib.compare(b, a) == 1
        assert lib.compare(a, a) == 0


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("1h30m", 5400), ("1.5s", 1.5), ("-2m", -120), ("3 days", 259200), ("1 week", 604800), ("0", 0), ("250ms", 0.25)],
)
def test_durations(written: str, seconds: float) -> None:
    assert duration(written).ToTimedelta() == datetime.timedelta(seconds=seconds)


def test_durations_that_are_none() -> None:
    for written in ("1x", "soon", "1h-3m", "h"):
        with pytest.raises(ValueError, match="is no duration"):
            duration(written)


@given(st.text(min_size=1), st.text(min_size=1))
@settings(max_examples=300)
def test_escaped_names_are_identifiers_and_differ(a: str, b: str) -> None:
    one, two = escape(a), escape(b)
    assert one is None or re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", one)
    assert one is None or two is None or (one == two) == (a == b)


@given(st.text("a_.-/", min_size=1, max_size=8), st.text("a_.-/", min_size=1, max_size=8))
@settings(max_examples=500)
def test_escaped_names_of_what_is_escaped_differ_too(a: str, b: str) -> None:
    assert (escape(a) == escape(b)) == (a == b)


@given(st.text() | st.from_regex(r"[0-9a-fA-F:./%\[\]@a-z]{1,30}", fullmatch=True))
@settings(max_examples=300)
def test_any_text_is_an_address_or_none(given_text: Any) -> None:
    for accepts, read in ((text.is_ip, text.ip), (text.is_cidr, text.cidr), (text.is_url, text.url)):
        if accepts(given_text):
            assert read(read(given_text)) == read(given_text)
        else:
            with pytest.raises(ValueError, match=r"."):
                read(given_text)
    if text.is_url(given_text):
        assert text.get_host(given_text).startswith(text.get_hostname(given_text).split(":")[0]) or "[" in given_text
        assert text.get_port(given_text).isdigit() or not text.get_port(given_text)
        assert isinstance(text.get_query(given_text), dict)
        assert text.get_escaped_path(given_text).isascii()


@given(st.text(max_size=80))
def test_any_text_is_of_a_format_or_it_is_told_why_not(given_text: str) -> None:
    for form in text.FORMATS:
        assert text.named(form) == form
        assert all(isinstance(problem, str) for problem in text.validate(form, given_text))
