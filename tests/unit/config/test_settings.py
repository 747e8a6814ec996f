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


def test_defaults_that_are_handed_in_are_the_weakest(tmp_path: Path) -> None:
    toml = tmp_path / "shop.toml"
    toml.write_text("rooms = 1\n")
    shop = load(Shop, flags={"door": "flag"}, toml_path=toml, defaults={"rooms": 8, "rent": 9.5})
    assert (shop.rooms, shop.rent) == (1, 9.5)


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


@dataclass(frozen=True, slots=True)
class Shelf:
    height: int
    goods: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.height > 9:
            raise ValueError(f"height is {self.height}; nobody reaches beyond 9")


@dataclass(frozen=True, slots=True)
class Store:
    shelves: dict[str, Shelf] = field(default_factory=dict)
    best: Shelf = field(default_factory=lambda: Shelf(1))


def test_tables_of_a_file(tmp_path: Path) -> None:
    toml = tmp_path / "store.toml"
    toml.write_text("[best]\nheight = 3\n[shelves.left]\nheight = 2\n[shelves.left.goods]\ntea = 4\n")
    assert load(Store, toml_path=toml) == Store({"left": Shelf(2, {"tea": 4})}, Shelf(3))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("best = 3", "best is 3, but must be a table"),
        ("shelves = 3", "shelves is 3, but must be a table"),
        ("[best]\nhight = 1", "there is no setting 'best.hight'; known are goods, height"),
        ("[best]\ngoods = 1", "best.goods is 1, but must be a table"),
        ("[shelves.left]\nheight = 'x'", "shelves.left.height is 'x', but must be a whole number"),
        ("[shelves.left]\nheight = 10", "shelves.left: height is 10; nobody reaches beyond 9"),
        ("[shelves.left.goods]\ntea = 'x'", "shelves.left.goods.tea is 'x', but must be a whole number"),
    ],
)
def test_what_is_wrong_in_a_table_is_named_by_its_path(tmp_path: Path, text: str, complaint: str) -> None:
    toml = tmp_path / "store.toml"
    toml.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(Store, toml_path=toml)
    assert str(refused.value) == f"{toml}: {complaint}"


def test_a_table_that_lacks_something(tmp_path: Path) -> None:
    toml = tmp_path / "store.toml"
    toml.write_text("[shelves.left]\n")
    with pytest.raises(ConfigError, match=r"missing setting: shelves\.left\.height"):
        load(Store, toml_path=toml)
