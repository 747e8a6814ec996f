"""What the comments in protos/ say of messages and fields, as a table for programs: the generated code has none.

    python protos/describe.py DESCRIPTORS > descriptions.py

DESCRIPTORS is what protoc writes with --descriptor_set_out and --include_source_info. A comment counts for what stands
right below it; one with an empty line below it is a heading, and counts for nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

HEAD = '''"""Generated from the comments in protos/ by protos/describe.py. Do not edit."""

DESCRIPTIONS: dict[str, str] = {
'''
MESSAGES, NESTED, FIELDS = 4, 3, 2
"""Numbers of fields in descriptors, of which paths are made."""


def described(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Message or Message.field, and what is said of it."""
    said = {tuple(place.path): " ".join(place.leading_comments.split()) for place in file.source_code_info.location}

    def walk(messages: Iterable[DescriptorProto], path: tuple[int, ...], outer: str) -> Iterator[tuple[str, str]]:
        for index, message in enumerate(messages):
            here, name = (*path, index), f"{outer}{message.name}"
            yield name, said.get(here, "")
            for number, field in enumerate(message.field):
                yield f"{name}.{field.name}", said.get((*here, FIELDS, number), "")
            yield from walk(message.nested_type, (*here, NESTED), f"{name}.")

    yield from walk(file.message_type, (MESSAGES,), "")


def main(path: str) -> None:
    files = FileDescriptorSet.FromString(Path(path).read_bytes()).file
    found = {name: text for file in files for name, text in described(file) if text}
    rows = "".join(f"    {name!r}: {text!r},\n" for name, text in sorted(found.items()))
    sys.stdout.write(f"{HEAD}{rows}}}\n")


if __name__ == "__main__":
    main(sys.argv[1])
