"""How the properties of a schema are called in rules: names that are identifiers of CEL, by Kubernetes' way of
escaping.

    a.b   a__dot__b      a-b   a__dash__b      a/b   a__slash__b      a__b   a__underscores__b      if   __if__

Names with other characters in them cannot be said in a rule; values see such a property when they are compared, no
more. Pure.
"""

from __future__ import annotations

import re
from functools import lru_cache

_RESERVED = frozenset(
    (
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import"),
        *("let", "loop", "package", "namespace", "return", "var", "void", "while"),
    )
)
_WORDS = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_nameable = re.compile(r"[a-zA-Z_./-][a-zA-Z0-9_./-]*", re.ASCII)
_special = re.compile(r"__|[./-]")


@lru_cache(4096)
def escape(name: str) -> str | None:
    """What a property is called in a rule; None: it cannot be said."""
    if not _nameable.fullmatch(name):
        return None
    if name in _RESERVED:
        return f"__{name}__"
    return _special.sub(lambda found: _WORDS[found.group()], name)
