"""Labels and selectors: how objects find each other.

A selector is a list of requirements that must all hold. It is written as in Kubernetes: "app=web,tier in (fe, be),
!canary". An empty selector matches everything; whoever means "nothing" (a service without a selector) says so himself,
or takes NOTHING. Matching is pure and knows nothing of objects, only of a mapping of labels. Selectors that stand in
objects become these by `cluster.api.selectors`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from cluster.api.errors import BadRequest
from cluster.api.names import LABEL_MAX_LENGTH, dns1123_subdomain_problems, too_long

_NAME_PART = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_name_part = re.compile(_NAME_PART)


def label_key_problems(key: str) -> Sequence[str]:
    """What keeps a text from being the key of a label, annotation, taint or resource: nothing if it is one."""
    # The same few keys stand in every object.
    return _key_problems(key) if len(key) > LABEL_MAX_LENGTH else _short_key_problems(key)


def _key_problems(key: str) -> Sequence[str]:
    prefix, slash, name = key.rpartition("/")
    problems = []
    if slash:
        if "/" in prefix:
            return [
                (
                    "a qualified name must consist of alphanumeric characters, '-', '_' or '.', with an optional DNS"
                    " subdomain prefix and '/' (e.g. 'example.com/MyName')"
                )
            ]
        if not prefix:
            problems.append("prefix part must be non-empty")
        else:
            problems += [f"prefix part {problem}" for problem in dns1123_subdomain_problems(prefix)]
    if not name:
        problems.append("name part must be non-empty")
    else:
        if len(name) > LABEL_MAX_LENGTH:
            problems.append(f"name part {too_long(LABEL_MAX_LENGTH)}")
        if not _name_part.fullmatch(name):
            problems.append(
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
                f" alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
                f" '{_NAME_PART}')"
            )
    return problems


_short_key_problems = lru_cache(2048)(_key_problems)


def label_value_problems(value: str) -> list[str]:
    """What keeps a text from being the value of a label: nothing if it is one."""
    problems = []
    if len(value) > LABEL_MAX_LENGTH:
        problems.append(too_long(LABEL_MAX_LENGTH))
    if value and not _name_part.fullmatch(value):
        problems.append(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must"
            " start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used"
            f" for validation is '({_NAME_PART})?')"
        )
    return problems


class Operator(Enum):
    """What a requirement asks of a key."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    NOT_EXISTS = "!"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one key. NOT_IN also holds when the key is absent."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()
    """Sorted, no duplicates; empty for EXISTS and NOT_EXISTS."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels fulfil it."""
        value = labels.get(self.key)
        if self.operator is Operator.IN:
            return value is not None and value in self.values
        if self.operator is Operator.NOT_IN:
            return value is None or value not in self.values
        return (value is not None) == (self.operator is Operator.EXISTS)

    def __str__(self) -> str:
        if self.operator is Operator.EXISTS:
            return self.key
        if self.operator is Operator.NOT_EXISTS:
            return f"!{self.key}"
        if len(self.values) == 1:
            return f"{self.key}{'=' if self.operator is Operator.IN else '!='}{self.values[0]}"
        return f"{self.key} {self.operator.value} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that must all hold; `str` gives the text that `parse_selector` reads."""

    requirements: tuple[Requirement, ...] = ()
    is_nothing: bool = False
    """It selects no object, whatever its labels are."""

    @property
    def is_empty(self) -> bool:
        """It asks for nothing, so everything matches."""
        return not self.requirements and not self.is_nothing

    @property
    def equals(self) -> dict[str, str]:
        """What it asks of labels by "=": whatever is selected has these."""
        single = (each for each in self.requirements if each.operator is Operator.IN and len(each.values) == 1)
        return {each.key: each.values[0] for each in single}

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return not self.is_nothing and all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = Selector()
NOTHING = Selector(is_nothing=True)


def selector_from_map(labels: Mapping[str, str]) -> Selector:
    """The selector that asks for exactly these labels (and allows others beside them)."""
    return Selector(tuple(Requirement(key, Operator.IN, (labels[key],)) for key in sorted(labels)))


_token = re.compile(r"\s*(?:(==|!=|[=!(),])|([^\s=!(),]+))")
_END = ""


def parse_selector(text: str) -> Selector:
    """Reads a label selector: a=b, a==b, a!=b, a in (x,y), a notin (x,y), a, !a, separated by commas.

    Raises BadRequest with the position of the first thing that makes no sense.
    """
    return _SelectorParser(text).parse() if text.strip() else EVERYTHING


class _SelectorParser:
    """Recursive descent over the tokens; one method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, bool, int]] = []  # text, is a word, position
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _token.match(text, position)
            assert match is not None  # every character is in one of the two classes
            word = match.group(2)
            self._tokens.append((word or match.group(1), word is not None, match.end() - len(word or match.group(1))))
            position = match.end()
        self._tokens.append((_END, False, end))
        self._at = 0

    def parse(self) -> Selector:
        requirements = [self._requirement()]
        while self._peek() == ",":
            self._next()
            requirements.append(self._requirement())
        if self._peek() != _END:
            raise self._error("expected ',' or the end")
        return Selector(tuple(requirements))

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._next()
            return Requirement(self._key(), Operator.NOT_EXISTS)
        key = self._key()
        sign = self._peek()
        if sign in (",", _END):
            return Requirement(key, Operator.EXISTS)
        self._next()
        if sign in ("=", "=="):
            return Requirement(key, Operator.IN, (self._value(),))
        if sign == "!=":
            return Requirement(key, Operator.NOT_IN, (self._value(),))
        if sign in ("in", "notin"):
            return Requirement(key, Operator(sign), self._values())
        self._at -= 1
        raise self._error("expected one of '=', '==', '!=', 'in', 'notin'")

    def _values(self) -> tuple[str, ...]:
        self._expect("(")
        values = {self._value()}
        while self._peek() == ",":
            self._next()
            values.add(self._value())
        self._expect(")")
        return tuple(sorted(values))

    def _key(self) -> str:
        word, is_word, _ = self._tokens[self._at]
        if not is_word:
            raise self._error("expected a label's key")
        problems = label_key_problems(word)
        if problems:
            raise self._error("; ".join(problems))
        self._next()
        return word

    def _value(self) -> str:
        word, is_word, _ = self._tokens[self._at]
        if not is_word:
            return ""  # "a=" and "a in (x,)" mean the empty value
        problems = label_value_problems(word)
        if problems:
            raise self._error("; ".join(problems))
        self._next()
        return word

    def _expect(self, sign: str) -> None:
        if self._peek() != sign:
            raise self._error(f"expected '{sign}'")
        self._next()

    def _peek(self) -> str:
        return self._tokens[self._at][0]

    def _next(self) -> None:
        self._at += 1

    def _error(self, what: str) -> BadRequest:
        token, _, position = self._tokens[self._at]
        found = f'"{token[:80]}"' if token else "the end"
        return BadRequest(f'label selector "{self._text[:200]}": at character {position + 1}, found {found}: {what}')
