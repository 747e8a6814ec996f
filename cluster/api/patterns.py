"""Patterns that users write, for texts that users write: RE2's, as in Kubernetes, which takes linear time.

How long that is in the end, callers bound by the `programsize` of a pattern, each in its own way (`schema_rules.py`,
`cel/cost.py`). The library is imported when a pattern is compiled, so that who has none does not pay for it. Pure.
"""

from __future__ import annotations

from typing import Any

MAX_PATTERN_BYTES = 4096
_MEMORY_BYTES = 1 << 20


def check_length(text: str) -> None:
    """Raises ValueError for a pattern that nobody should have to compile."""
    if len(text.encode()) > MAX_PATTERN_BYTES:
        raise ValueError(f"a pattern of more than {MAX_PATTERN_BYTES} bytes")


def compile_pattern(text: str) -> Any:
    """A pattern of RE2. Raises ValueError, in its words, if it is none."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    try:
        return re2.compile(text, options)
    except re2.error as error:
        why = error.args[0] if error.args else ""
        raise ValueError(why.decode(errors="replace") if isinstance(why, bytes) else str(why)) from error
