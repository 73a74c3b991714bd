"""Placements of other packages: found by entry point, offered by name, refused with a reason."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from orchestrator.contract.errors import StartupError
from orchestrator.leader.placements import GROUP, load
from orchestrator.scheduling import registry
from orchestrator.scheduling.policies.bestfit import BestFit


class Named(BestFit):
    name = "by-name"


class Unfinished:
    name = "unfinished"
    summary = ""
    knows_groups = False
    big_first = False
    fullest_first = False


class Unflagged(Unfinished):
    name = "unflagged"
    fullest_first = None  # type: ignore[assignment]
    scores = choose = place_many = BestFit.scores


made = Named()


class Broken:
    def __init__(self) -> None:
        raise RuntimeError("no luck")


def point(name: str, what: str) -> EntryPoint:
    return EntryPoint(name=name, value=f"{__name__}:{what}", group=GROUP)


@pytest.mark.parametrize("what", ["Named", "made"])
def test_a_class_or_an_object_will_do(what: str) -> None:
    (policy,) = load([point("by-name", what)])
    assert policy.name == "by-name"


@pytest.mark.parametrize(
    ("name", "what", "said"),
    [
        ("gone", "nothing_here", "placement 'gone' .* cannot be loaded: AttributeError"),
        ("broken", "Broken", "cannot be loaded: RuntimeError: no luck"),
        ("other", "Named", "calls itself 'by-name'"),
        ("unfinished", "Unfinished", "has no method scores"),
        ("unflagged", "Unflagged", "fullest_first must be True or False"),
        ("no good", "Named", "its name must be letters"),
    ],
)
def test_what_cannot_be_used_stops_the_start_and_says_why(name: str, what: str, said: str) -> None:
    with pytest.raises(StartupError, match=said):
        load([point(name, what)])


def test_an_added_placement_can_be_used_and_a_taken_name_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_POLICIES", dict(registry._POLICIES))
    registry.add([Named()])
    assert registry.get("by-name").name == "by-name"
    assert ("by-name", Named.summary) in registry.summaries()

    class Taken(BestFit):
        name = "spread"

    before = registry.names()
    with pytest.raises(ValueError, match="two placements named 'spread'"):
        registry.add([BestFit(), Taken()])
    assert registry.names() == before
