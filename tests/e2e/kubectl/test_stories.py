"""kubectl, unmodified, on a real cluster: what people type."""

from __future__ import annotations

import pytest

from tests.e2e.kubectl.stories import STORIES
from tests.kit.kubectl import Kubectl


@pytest.mark.parametrize("story", list(STORIES))
def test_what_people_type(kubectl: Kubectl, story: str) -> None:
    kubectl.tell(STORIES[story])


def test_there_are_a_hundred_commands() -> None:
    assert sum(len(story) for story in STORIES.values()) >= 100
