"""What a service may say about its ambassador, and the rules of the one for HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.http_rules import draw, parse_rule, parse_rules
from cluster.api.validation import validate
from tests.unit.api.test_validation import SERVICE, made, spec


def ambassador(policy: str, **options: str) -> dict[str, Any]:
    return spec(ambassador={"policy": policy, "options": {name.replace("_", "-"): options[name] for name in options}})


@pytest.mark.parametrize(
    "patch",
    [
        ambassador("redis"),
        ambassador("redis", role_label="example.com/role", master="primary", replica="standby", pin_after_write="true"),
        ambassador("postgresql", role_label="role"),
        ambassador("http", mirror="track in (shadow)", forwarded="true", timeout_seconds="5", hash_header="X-User"),
        spec(ambassador={"policy": "http", "options": {"rule.1": "path=/a => app=a", "rule.20": "=> t=a@9 | t=b@1"}}),
        ambassador("mine:Policy", anything="goes"),
    ],
)
def test_what_it_may_say(patch: dict[str, Any]) -> None:
    assert validate(made(SERVICE, patch)) == []


OWN = '"redis", "postgresql", "http", or "module:Class"'


@pytest.mark.parametrize(
    ("patch", "path", "message"),
    [
        (spec(ambassador={}), "spec.ambassador.policy", "Required value"),
        (ambassador("reddis"), "spec.ambassador.policy", OWN),
        (ambassador("../mine:Policy"), "spec.ambassador.policy", OWN),
        (ambassador("os.path:Policy"), "spec.ambassador.policy", OWN),
        (ambassador("redis", role="x"), "spec.ambassador.options[role]", "there are role-label, master, replica"),
        (ambassador("redis", role_label="-"), "spec.ambassador.options[role-label]", "must"),
        (ambassador("redis", replica="master"), "spec.ambassador.options[replica]", "same as that of the master"),
        (ambassador("redis", pin_after_write="yes"), "spec.ambassador.options[pin-after-write]", '"true" or "false"'),
        (ambassador("http", mirror="a in"), "spec.ambassador.options[mirror]", "expected"),
        (ambassador("http", timeout_seconds="0"), "spec.ambassador.options[timeout-seconds]", "from 1 to 86400"),
        (ambassador("mine:Policy", big="x" * 1025), "spec.ambassador.options[big]", "at most 1024 bytes"),
        (spec(ambassador={"policy": "http", "options": {"rule.1": "/a"}}), "spec.ambassador.options[rule.1]", "=>"),
        (spec(clusterIP="None", ambassador={"policy": "http"}), "spec.ambassador", "do not pass the proxy"),
        (
            spec(
                sessionAffinity="ClientIP",
                sessionAffinityConfig={"clientIP": {"timeoutSeconds": 5}},
                ambassador={"policy": "http"},
            ),
            "spec.sessionAffinity",
            "must be None",
        ),
    ],
)
def test_what_it_may_not_say(patch: dict[str, Any], path: str, message: str) -> None:
    problems = {error.path: error.message for error in validate(made(SERVICE, patch))}
    assert path in problems, problems
    assert message in problems[path]


def test_a_path_is_a_prefix_of_whole_elements() -> None:
    rule = parse_rule("path=/api => app=api")
    assert [rule.matches("GET", path, "", {}) for path in ("/api", "/api/", "/api/x", "/apix", "/")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert all(parse_rule("path=/ => a=b").matches("GET", path, "", {}) for path in ("/", "/x"))


def test_all_conditions_must_hold() -> None:
    rule = parse_rule("path=/a method=PUT host=Shop.Example header:X-Beta=yes header:x-id => track=beta")
    fine: tuple[Any, ...] = ("PUT", "/a", "shop.EXAMPLE", {"x-beta": "yes", "x-id": "7"})
    assert rule.matches(*fine)
    others: tuple[Any, ...] = ("GET", "/b", "other", {"x-beta": "yes"})
    for place, other in enumerate(others):
        request = [*fine]
        request[place] = other
        assert not rule.matches(*request)


def test_weights_are_shares_of_the_dice() -> None:
    groups = parse_rule("=> t=a @ 3 | t=b @ 0 | t=c @ 1").groups
    assert [str(draw(groups, dice).selector) for dice in (0.0, 0.74, 0.75, 0.999)] == ["t=a", "t=a", "t=c", "t=c"]


def test_rules_go_by_their_number() -> None:
    rules = parse_rules({"rule.10": "=> n=10", "rule.9": "=> n=9", "mirror": "x=y"})
    assert [str(rule.groups[0].selector) for rule in rules] == ["n=9", "n=10"]


@pytest.mark.parametrize(
    "text",
    ["", "path=a => x=y", "path=/a path=/b => x=y", "color=red => x=y", "header: => x=y", "header:a= => x=y",
     "=> a=b @ x", "=> a=b @ 0", "=> a=b @ -1", "=> ==", "method= => a=b"],
)  # fmt: skip
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rule(text)


@pytest.mark.parametrize("options", [{"rule.x": "=> a=b"}, {"rule.1": "=> a=b", "rule.01": "=> a=c"}, {"rule.": ""}])
def test_what_is_no_number(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"rule\."):
        parse_rules(options)
