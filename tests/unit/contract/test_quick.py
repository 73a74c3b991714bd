"""The quicker ``__init__`` makes the same instances, refuses the same calls, and is on no class that needs more."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator.contract.model import Variable
from orchestrator.contract.quick import quick_init
from orchestrator.state.answers import Remembered
from orchestrator.state.commands import Applied, VariableAnswer, WriteVariable


@dataclass(frozen=True, slots=True)
class Slow:
    a: int
    b: str = "b"
    c: tuple[int, ...] = field(default=(1, 2), kw_only=True)


@quick_init
@dataclass(frozen=True, slots=True)
class Quick:
    a: int
    b: str = "b"
    c: tuple[int, ...] = field(default=(1, 2), kw_only=True)


def test_it_takes_the_same_arguments_and_makes_the_same() -> None:
    slow, quick = inspect.signature(Slow), inspect.signature(Quick)
    assert [(one.name, one.kind, one.default) for one in quick.parameters.values()] == [
        (one.name, one.kind, one.default) for one in slow.parameters.values()
    ]
    for made in (Quick(1), Quick(1, "x"), Quick(b="x", a=1), Quick(1, c=(3,))):
        assert Slow(made.a, made.b, c=made.c) == Slow(**dataclasses.asdict(made))
    assert repr(Quick(1, c=(3,))) == "Quick(a=1, b='b', c=(3,))"
    assert Quick(1) == Quick(1, "b") != Quick(2)
    assert hash(Quick(1)) == hash(Quick(1, "b"))
    assert replace(Quick(1), b="y") == Quick(1, "y")
    assert copy.copy(Quick(1, "z")) == Quick(1, "z")


def test_wrong_calls_are_refused() -> None:
    kind: Any = Quick
    for arguments, named in (((), {}), ((1, "b", (1,)), {}), ((1,), {"d": 1}), ((1,), {"a": 1})):
        with pytest.raises(TypeError, match="__init__"):
            kind(*arguments, **named)


def test_instances_stay_frozen() -> None:
    made = Quick(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.a = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.a


@pytest.mark.parametrize("kind", [Variable, WriteVariable, VariableAnswer, Applied, Remembered])
def test_classes_that_have_it_take_every_field_by_name(kind: type) -> None:
    names = [one.name for one in dataclasses.fields(kind)]
    made = kind(**{name: name for name in names})
    assert [getattr(made, name) for name in names] == names
    with pytest.raises(TypeError, match="__init__"):
        kind(*names)


def test_a_class_that_needs_more_is_refused() -> None:
    @dataclass(frozen=True, slots=True)
    class Counted:
        rows: list[int] = field(default_factory=list)

    @dataclass(frozen=True, slots=True)
    class Checked:
        row: int

        def __post_init__(self) -> None:
            raise ValueError

    for kind in (Counted, Checked):
        with pytest.raises(TypeError, match="needs more than to be filled"):
            quick_init(kind)
