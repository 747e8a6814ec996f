"""Settings from flags, environment and a TOML file, in this order, into a frozen dataclass.

The dataclass is the schema: a field's name, type and default; a field that is a dataclass itself, or a dict, is a
table of the file. A value that does not fit is refused with the key ("profiles.gpu.weights"), where it came from, and
what would be allowed; so is a key that no field has.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from cluster.config.errors import ConfigError

S = TypeVar("S")


def load(
    cls: type[S],
    *,
    flags: Mapping[str, object] | None = None,
    env_prefix: str = "",
    environ: Mapping[str, str] | None = None,
    toml_path: Path | None = None,
    defaults: Mapping[str, object] | None = None,
) -> S:
    """An instance of the dataclass `cls`. `defaults` stand in the place of those of its fields, and all else wins.

    A flag that is None counts as not given. The environment variable of field `bind_rate` with prefix "PODIUM_MASTER_"
    is PODIUM_MASTER_BIND_RATE. Raises ConfigError.
    """
    hints, fields = _schema(cls)
    chosen: dict[str, Any] = {}
    chosen.update(_chosen(hints, fields, defaults or {}, "", "defaults"))
    for source, values in _sources(flags or {}, env_prefix, environ or {}, toml_path, fields):
        chosen.update(_chosen(hints, fields, values, "", source))
    try:
        return _made(cls, fields, chosen, "")
    except ValueError as error:
        # What does not go together is mostly said by one source; the file is the one that people cannot see.
        source = f"{toml_path}: " if toml_path is not None else ""
        raise ConfigError(f"{source}{error}") from error


def _schema(cls: type[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Types and fields, by name."""
    return typing.get_type_hints(cls), {field.name: field for field in dataclasses.fields(cls) if field.init}


def _chosen(
    hints: Mapping[str, Any], fields: Mapping[str, Any], values: Mapping[str, object], prefix: str, source: str
) -> dict[str, Any]:
    """What one source says, as the fields want it."""
    chosen = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in fields:
            raise ConfigError(f"{source}: there is no setting {prefix + key!r}; known are {', '.join(sorted(fields))}")
        chosen[name] = _convert(hints[name], value, prefix + name, source)
    return chosen


def _made(cls: type[S], fields: Mapping[str, Any], chosen: Mapping[str, Any], prefix: str) -> S:
    missing = [
        prefix + name
        for name, field in fields.items()
        if name not in chosen and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"missing setting{'s' if len(missing) > 1 else ''}: {', '.join(missing)}")
    return cls(**chosen)


def _table(hint: type[Any], value: object, name: str, source: str) -> Any:
    """A dataclass within a dataclass."""
    if not isinstance(value, Mapping):
        raise _refused(name, source, value, "a table")
    hints, fields = _schema(hint)
    try:
        return _made(hint, fields, _chosen(hints, fields, value, f"{name}.", source), f"{name}.")
    except ValueError as error:
        raise ConfigError(f"{source}: {name}: {error}") from error


def _sources(
    flags: Mapping[str, object],
    env_prefix: str,
    environ: Mapping[str, str],
    toml_path: Path | None,
    fields: Mapping[str, Any],
) -> list[tuple[str, Mapping[str, object]]]:
    """Weakest first, so that the stronger overwrites."""
    sources: list[tuple[str, Mapping[str, object]]] = []
    if toml_path is not None:
        try:
            sources.append((str(toml_path), tomllib.loads(toml_path.read_text())))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{toml_path}: {error}") from error
    if env_prefix:
        for name in fields:
            variable = env_prefix + name.upper()
            if variable in environ:
                sources.append((f"${variable}", {name: environ[variable]}))
    sources.append(("command line", {key: value for key, value in flags.items() if value is not None}))
    return sources


def _convert(hint: Any, value: object, name: str, source: str) -> Any:
    """The value as the type that the field wants; text is parsed."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return None if value is None else _convert(options[0], value, name, source)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise _refused(name, source, value, "a list")
        return tuple(_convert(typing.get_args(hint)[0], item, name, source) for item in items if item != "")
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _refused(name, source, value, "a table")
        return {key: _convert(typing.get_args(hint)[1], item, f"{name}.{key}", source) for key, item in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _table(hint, value, name, source)
    if origin is typing.Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise _refused(name, source, value, f"one of {', '.join(map(str, allowed))}")
        return value
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            raise _refused(name, source, value, f"one of {', '.join(str(m.value) for m in hint)}") from None
    return _convert_plain(hint, value, name, source)


def _convert_plain(hint: Any, value: object, name: str, source: str) -> Any:
    if hint is bool:
        words = {
            "true": True,
            "1": True,
            "yes": True,
            "on": True,
            "false": False,
            "0": False,
            "no": False,
            "off": False,
        }
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        raise _refused(name, source, value, "true or false")
    if hint in (int, float):
        if isinstance(value, hint) and not isinstance(value, bool) and math.isfinite(value):
            return value
        if isinstance(value, str) or (hint is float and isinstance(value, int) and not isinstance(value, bool)):
            try:
                number = hint(value)
                if math.isfinite(number):  # a timer of "nan" or "inf" would never do what anybody meant
                    return number
            except ValueError:
                pass
        raise _refused(name, source, value, "a whole number" if hint is int else "a number")
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is str and isinstance(value, str):
        return value
    if isinstance(hint, type) and isinstance(value, hint):
        return value
    raise _refused(name, source, value, getattr(hint, "__name__", str(hint)))


def _refused(name: str, source: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(f"{source}: {name} is {value!r}, but must be {wanted}")
