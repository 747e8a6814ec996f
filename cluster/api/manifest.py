"""Manifests: objects from files, checked as far as one can without a cluster, with the line of every problem.

A text holds documents of YAML or JSON; each is an object, or a List of objects. Everything is read and checked (limits,
syntax, fields and types, and the master's own rules after defaults) before anything is returned, so that a mistake in
the last file of a directory is found before the first object is written:

    web.yaml:12: spec.template.spec.containers[0].imag: unknown field; did you mean "image"?

The objects are returned as written, without defaults: what people did not say, they did not say.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cluster.api.defaults import apply_defaults
from cluster.api.definitions import may_be_defined
from cluster.api.errors import ApiError, FieldError, Invalid
from cluster.api.json import custom_from_json, object_from_json, read_json
from cluster.api.json_parse import MAX_PROBLEMS
from cluster.api.kinds import BY_NAME, AnyObject
from cluster.api.validation import validate
from cluster.api.yaml_reader import MAX_BYTES, MAX_NODES, Document, Lines, Refused, read_yaml

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILES = 1000
"""In a directory; beyond that it is probably the wrong directory."""
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object as somebody wrote it."""

    source: str
    """The file's path, or "-"."""
    line: int
    """Where the object begins, from 1."""
    object: AnyObject
    """Without defaults."""
    data: dict[str, Any]
    """The same as JSON's values, with apiVersion and kind."""


def read_manifests(text: str | bytes, source: str) -> list[Manifest]:
    """The objects of a text, in order. `source` is how errors call it.

    Raises Invalid if anything at all is wrong: its causes are all problems, each with source:line: path and reason.
    """
    manifests, problems = _read(text, source)
    if problems:
        raise _invalid(problems)
    return manifests


def read_path(path: str, stdin: BinaryIO) -> list[Manifest]:
    """The objects of a file, of all *.yaml, *.yml and *.json files right in a directory (sorted by name), or of `stdin`
    if the path is "-". Raises Invalid if anything is wrong with any of them, or if there are none.
    """
    manifests: list[Manifest] = []
    problems: list[FieldError] = []
    for source, content in _contents(path, stdin):
        read, found = _read(content, source)
        manifests += read
        problems += found[: MAX_PROBLEMS - len(problems)]
    if problems:
        raise _invalid(problems)
    if not manifests:
        raise Invalid(f"{path}: there is no object in it")
    return manifests


def _contents(path: str, stdin: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Sources and what is in them; at most one byte more than the limit is read of each."""
    if path == "-":
        yield path, stdin.read(MAX_BYTES + 1)
        return
    try:
        files = [Path(path)]
        if files[0].is_dir():
            files = sorted(file for file in files[0].iterdir() if file.suffix in SUFFIXES and not file.is_dir())
            if not files:
                raise Invalid(f"{path}: there is no file *.yaml, *.yml or *.json in this directory")
            if len(files) > MAX_FILES:
                raise Invalid(f"{path}: there are {len(files)} files in this directory; the most is {MAX_FILES}")
        for file in files:
            with file.open("rb") as stream:
                yield str(file), stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise Invalid(f"{error.filename or path}: {error.strerror or error}") from error


def _read(text: str | bytes, source: str) -> tuple[list[Manifest], list[FieldError]]:
    """The objects and the problems of one text."""
    manifests: list[Manifest] = []
    problems: list[FieldError] = []

    def note(line: int, path: str, message: str, reason: str = "FieldValueInvalid") -> None:
        if len(problems) < MAX_PROBLEMS:
            problems.append(FieldError(f"{source}:{line}: {path}" if path else f"{source}:{line}", message, reason))

    try:
        documents = _documents(text)
    except Refused as refused:
        note(refused.line, "", refused.message)
        return [], problems
    for document in documents:
        for twice in document.duplicates:
            note(twice.line, twice.path, twice.message, "FieldValueDuplicate")
        for data, lines, prefix in _objects(document):
            try:
                obj = _object(data)
                errors = _check(obj)
            except Invalid as refusal:
                obj, errors = None, list(refusal.causes) or [FieldError("", refusal.message)]
            for error in errors:
                path = f"{prefix}.{error.path}" if prefix and error.path else prefix or error.path
                note(lines.find(error.path), path, error.message, error.reason)
            if obj is not None and not errors:
                manifests.append(Manifest(source, lines.line, obj, data))
    return manifests, problems


def _object(data: Any) -> AnyObject:
    """An object of one of our kinds; or one of a kind that users may have defined: of which definition it is, only the
    cluster knows (`cluster.client.definitions`)."""
    if isinstance(data, dict):
        version, kind = data.get("apiVersion"), data.get("kind")
        if isinstance(version, str) and isinstance(kind, str) and kind and may_be_defined(version):
            return custom_from_json(data, "")
    return object_from_json(data)


def _documents(text: str | bytes) -> list[Document]:
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")
    if len(text) > MAX_BYTES:
        raise Refused(1, f"this is larger than {MAX_BYTES} bytes, the most for a manifest")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(text.count(b"\n", 0, error.start) + 1, "this is not UTF-8") from error
    try:
        return read_yaml(decoded)
    except Refused:
        # Nearly all JSON is YAML; escaped surrogate pairs and tabs are not.
        if not decoded.lstrip().startswith(("{", "[")):
            raise
        try:
            data = read_json(decoded)
        except ApiError:
            data = None  # then what YAML says about it is as good, and has the line
        if data is None or _nodes_exceed(data, MAX_NODES):
            raise
        return [Document(data, Lines(1), [])]


def _objects(document: Document) -> Iterator[tuple[Any, Lines, str]]:
    """The objects of a document: itself, or the items of a list; each with its lines and what to put before paths."""
    data, lines = document.data, document.lines
    kind = data.get("kind") if isinstance(data, dict) else None
    item_kind = kind.removesuffix("List") if isinstance(kind, str) and kind.endswith("List") else None
    if item_kind is None or not isinstance(data.get("items", []), list):
        yield data, lines, ""
        return
    for index, item in enumerate(data.get("items", [])):
        path = f"items[{index}]"
        if item_kind in BY_NAME and isinstance(item, dict):
            # The items of a PodList need not say that they are pods.
            item = {"apiVersion": data.get("apiVersion"), "kind": item_kind, **item}
        yield item, lines.at(path), path


def _check(obj: AnyObject) -> list[FieldError]:
    """What the master would say about it."""
    complete = deepcopy(obj)
    apply_defaults(complete)
    return validate(complete)


def _nodes_exceed(data: Any, limit: int) -> bool:
    count, waiting = 0, [data]
    while waiting and count <= limit:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return count > limit


def _invalid(problems: list[FieldError]) -> Invalid:
    shown = "\n".join(map(str, problems[:_SHOWN]))
    more = f"\nand {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return Invalid(shown + more, causes=problems)
