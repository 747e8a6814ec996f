"""The words KIND, KIND NAME and KIND/NAME: which objects a command is to work on.

A word means one of our own kinds, or else one that a definition defines; and definitions are in the cluster. So a
command says what is `Wanted` before there is a connection, which tells at once what makes no sense, and asks for the
targets when there is one. The cluster is asked for its definitions if a word means none of our own kinds, and once. The
name of an object of a defined kind is RESOURCE/NAME, as it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import click

if TYPE_CHECKING:
    from cluster.api.kinds import Kind
    from cluster.client.definitions import Definitions

Target: TypeAlias = "tuple[Kind, str]"
"""A kind and a name; a name of "" means: all of the kind."""


class Wanted:
    """What the words of a command mean."""

    def __init__(self, words: Sequence[str], check: Callable[[list[Target]], None] | None = None) -> None:
        """`check` raises click.UsageError for targets that the command does not take; it is called as soon as they are
        known. Raises click.UsageError also for words that make no sense whatever they mean."""
        from cluster.api.errors import Invalid

        self._words = words
        self._check = check or (lambda _: None)
        self._known: list[Target] | None = None
        try:
            self._known = targets(words)
        except Invalid:
            return
        self._check(self._known)

    async def targets(self, source: Definitions) -> list[Target]:
        """All of them, in the order of the words. Raises Invalid for a word that means no kind."""
        if self._known is None:
            found = await _defined(source, self._words)
            self._check(found)
            self._known = found
        return self._known


class WantedOne:
    """The same of a single KIND/NAME."""

    def __init__(self, word: str) -> None:
        """Raises click.UsageError."""
        _check_slash(word)
        self._wanted = Wanted([word], lambda found: _check_one(found, word))

    async def target(self, source: Definitions) -> Target:
        """Raises Invalid if the kind is none."""
        return (await self._wanted.targets(source))[0]


def targets(words: Sequence[str]) -> list[Target]:
    """What "pod web-1 web-2" or "pod/web-1 rc/web" means, of our own kinds. Raises Invalid, click.UsageError."""
    return [(kind, name) for word, name in _pairs(words) for kind in _own(word)]


def _own(word: str) -> list[Kind]:
    """Our own kind of that name; "all" is what a user's application consists of. Raises Invalid."""
    from cluster.api.kinds import kind_from_word

    return [kind_from_word(one) for one in (("pods", "rc", "svc") if word == "all" else (word,))]


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """The word for the kind and the name of each target. Raises click.UsageError."""
    if not words:
        raise click.UsageError("name what you mean: KIND, KIND NAME or KIND/NAME")
    if not any("/" in word for word in words):
        return [(kind, name) for kind in _split(words[0]) for name in words[1:] or [""]]
    pairs = []
    for word in words:
        kinds, _, name = word.partition("/")
        if not name or not kinds:
            raise click.UsageError(f'"{word}": give all arguments as KIND/NAME, or KIND NAME NAME')
        pairs += [(kind, name) for kind in _split(kinds)]
    return pairs


def _split(kinds: str) -> list[str]:
    words = [word for word in kinds.split(",") if word]
    if not words:
        raise click.UsageError(f'"{kinds}" names no kind')
    return words


def one_target(word: str) -> Target:
    """What a single KIND/NAME means, of our own kinds. Raises Invalid, click.UsageError."""
    _check_slash(word)
    pairs = targets([word])
    _check_one(pairs, word)
    return pairs[0]


def _check_slash(word: str) -> None:
    if "/" not in word:
        raise click.UsageError(f'"{word}": give KIND/NAME, such as pod/{word}')


def _check_one(found: list[Target], word: str) -> None:
    if len(found) != 1 or not found[0][1]:
        raise click.UsageError(f'"{word}": give one KIND/NAME')


async def _defined(source: Definitions, words: Sequence[str]) -> list[Target]:
    from cluster.api.errors import Invalid
    from cluster.client.definitions import kinds_of_words

    pairs = _pairs(words)
    defined = await kinds_of_words(source, [word for word, _ in pairs])
    found: list[Target] = []
    for word, name in pairs:
        try:
            found += [(kind, name) for kind in _own(word)]
        except Invalid:
            if word not in defined:
                raise
            kind = defined[word]
            found.append((kind, f"{kind.plural}/{name}" if name else ""))
    return found


def names_or(selector: str) -> Callable[[list[Target]], None]:
    """A check: names or a selector, not both."""

    def check(found: list[Target]) -> None:
        if selector and any(name for _, name in found):
            raise click.UsageError("names and selectors exclude each other")

    return check


def narrowed(kind: Kind, field_selector: str) -> str:
    """The field selector for objects of a kind, of which users may have defined it."""
    from cluster.api.kinds import DefinedKind

    if not isinstance(kind, DefinedKind):
        return field_selector
    return f"resource={kind.plural}" + (f",{field_selector}" if field_selector else "")


def named(kind: Kind, name: str) -> str:
    """An object as it is told: pod/web, widget.example.com/blue."""
    from cluster.api.kinds import DefinedKind

    return f"{kind.field}/{name.rpartition('/')[2] if isinstance(kind, DefinedKind) else name}"
