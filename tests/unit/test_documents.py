"""What the documents point at is there: the tests that they name, the files that they link to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")) if path.is_file()
)

_TEST = re.compile(r"`((?:unit|contract|e2e|chaos)/[\w/]+\.py)?(?:::(test_\w+)(\*?))?`")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)[^)]*\)")


def _named(text: str) -> Iterator[tuple[str, str, bool]]:
    """The file, the test (or "") and whether only its beginning is given; `::test` goes on in the file named before."""
    file = ""
    for match in _TEST.finditer(text):
        file = match[1] or file
        if match[1] or match[2]:
            yield file, match[2] or "", bool(match[3])


def _tests_of(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_tests_that_a_document_names_are_there(document: Path) -> None:
    for file, test, beginning in _named(document.read_text()):
        path = ROOT / "tests" / file
        assert path.is_file(), f"{document.name} names {file}"
        if test:
            there = _tests_of(path)
            found = any(name.startswith(test) for name in there) if beginning else test in there
            assert found, f"{document.name} names {file}::{test}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_files_that_a_document_links_to_are_there(document: Path) -> None:
    for target in _LINK.findall(document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_what_a_document_names_is_recognised() -> None:
    text = "`e2e/test_a.py::test_one`, `::test_two` and `unit/x/test_b.py`, `unit/x/test_c.py::test_killed_*`; `other`"
    assert list(_named(text)) == [
        ("e2e/test_a.py", "test_one", False),
        ("e2e/test_a.py", "test_two", False),
        ("unit/x/test_b.py", "", False),
        ("unit/x/test_c.py", "test_killed_", True),
    ]
