"""Settings: which source wins, and that every refusal names key, source and what would be allowed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from cluster.config.errors import ConfigError
from cluster.config.settings import load


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Shop:
    door: str
    rooms: int = 3
    rent: float = 1.5
    is_open: bool = False
    colour: Colour = Colour.RED
    mood: Literal["good", "bad"] = "good"
    cellar: Path | None = None
    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] = field(default_factory=lambda: (1, 2))

    def __post_init__(self) -> None:
        if self.rooms < 0:
            raise ValueError(f"rooms is {self.rooms}; a shop has at least none")


def test_defaults() -> None:
    assert load(Shop, flags={"door": "left"}) == Shop("left")


def test_flags_beat_environment_beats_file(tmp_path: Path) -> None:
    toml = tmp_path / "shop.toml"
    toml.write_text('door = "file"\nrooms = 1\nrent = 7\n')
    environ = {"SHOP_DOOR": "environment", "SHOP_ROOMS": "2", "OTHER": "x"}
    shop = load(Shop, flags={"door": "flag", "rooms": None}, env_prefix="SHOP_", environ=environ, toml_path=toml)
    assert (shop.door, shop.rooms, shop.rent) == ("flag", 2, 7.0)


def test_text_becomes_what_the_field_wants() -> None:
    environ = {
        "S_DOOR": "d",
        "S_ROOMS": "4",
        "S_RENT": "2",
        "S_IS_OPEN": "Yes",
        "S_COLOUR": "blue",
        "S_MOOD": "bad",
        "S_CELLAR": "/tmp/x",
        "S_NAMES": "a,b,",
        "S_SIZES": "7",
    }
    expected = Shop("d", 4, 2.0, True, Colour.BLUE, "bad", Path("/tmp/x"), ("a", "b"), (7,))
    assert load(Shop, env_prefix="S_", environ=environ) == expected


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("rooms", "many", "a whole number"),
        ("rooms", True, "a whole number"),
        ("rooms", 1.5, "a whole number"),
        ("rent", "cheap", "a number"),
        ("rent", "nan", "a number"),
        ("rent", float("inf"), "a number"),
        ("is_open", "perhaps", "true or false"),
        ("is_open", 1, "true or false"),
        ("colour", "green", "one of red, blue"),
        ("mood", "so so", "one of good, bad"),
        ("names", 5, "a list"),
        ("sizes", ("x",), "a whole number"),
        ("door", 5, "str"),
    ],
)
def test_what_does_not_fit_is_refused(key: str, value: object, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Shop, flags={"door": "d"} | {key: value})
    shown = value[0] if isinstance(value, tuple) else value
    assert str(caught.value) == f"command line: {key} is {shown!r}, but must be {wanted}"


def test_the_source_is_named(tmp_path: Path) -> None:
    toml = tmp_path / "shop.toml"
    toml.write_text('door = "d"\nrooms = "x"\n')
    with pytest.raises(ConfigError, match=rf"^{toml}: rooms is 'x'"):
        load(Shop, toml_path=toml)
    with pytest.raises(ConfigError, match=r"^\$SHOP_ROOMS: rooms is 'x'"):
        load(Shop, flags={"door": "d"}, env_prefix="SHOP_", environ={"SHOP_ROOMS": "x"})


def test_an_unknown_key_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"there is no setting 'doors'; known are cellar, colour, door, is_open,"):
        load(Shop, flags={"doors": "d"})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^missing setting: door$"):
        load(Shop)


@pytest.mark.parametrize("content", [None, "door ="])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    toml = tmp_path / "shop.toml"
    if content is not None:
        toml.write_text(content)
    with pytest.raises(ConfigError, match=r"shop\.toml"):
        load(Shop, toml_path=toml)


def test_what_the_dataclass_itself_refuses() -> None:
    flags: dict[str, Any] = {"door": "d", "rooms": -1}
    with pytest.raises(ConfigError, match="a shop has at least none"):
        load(Shop, flags=flags)
