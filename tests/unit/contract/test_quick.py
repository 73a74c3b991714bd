"""The quicker classes make the same instances, refuse the same calls, and are no others than ``dataclasses`` makes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import typing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator.contract import quick
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


# ---------------------------------------------------------------------------- the whole class


@dataclass(frozen=True, slots=True)
class SlowWhole:
    a: int
    b: str = "b"


@quick.dataclass(frozen=True, slots=True)
class QuickWhole:
    a: int
    b: str = "b"


@quick.dataclass(frozen=True, slots=True, kw_only=True)
class QuickOne:
    """With words of its own."""

    only: float


@quick.dataclass(frozen=True, slots=True, eq=False)
class QuickOther:
    a: int


@quick.dataclass(frozen=True, slots=True, order=True)
class QuickOrdered:
    a: int
    b: list[int] = field(default_factory=list)


def test_a_class_is_made_shown_compared_and_copied_as_pythons_own() -> None:
    slow: Any = SlowWhole(1)
    made: Any = QuickWhole(1)
    assert repr(made) == repr(slow).replace("Slow", "Quick")
    assert made == QuickWhole(a=1, b="b")
    assert made != QuickWhole(2)
    assert (made == slow, made == 1, slow == made) == (False, False, False)
    assert hash(made) == hash(slow) == hash(QuickWhole(1))
    assert replace(made, b="y") == QuickWhole(1, "y")
    for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):  # noqa: S301 - our own
        assert again == made
        assert again is not made
    assert dataclasses.asdict(made) == dataclasses.asdict(slow)
    assert not hasattr(made, "__dict__")
    assert QuickWhole.__match_args__ == SlowWhole.__match_args__
    assert [one.name for one in dataclasses.fields(QuickWhole)] == ["a", "b"]
    assert typing.get_type_hints(QuickWhole.__init__) == typing.get_type_hints(SlowWhole.__init__)
    assert inspect.signature(QuickWhole).parameters.keys() == inspect.signature(SlowWhole).parameters.keys()
    for change in ("a", "new"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, change, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.a
    params: Any = QuickWhole.__dataclass_params__  # type: ignore[attr-defined]
    assert repr(params) == repr(SlowWhole.__dataclass_params__)  # type: ignore[attr-defined]


def test_one_field_no_equality_and_words_of_its_own() -> None:
    assert QuickOne(only=1.0) == QuickOne(only=1.0) != QuickOne(only=2.0)
    assert {QuickOne(only=1.0), QuickOne(only=1.0)} == {QuickOne(only=1.0)}
    assert QuickOne.__doc__ == "With words of its own."
    with pytest.raises(TypeError, match="__init__"):
        QuickOne(1.0)  # type: ignore[call-arg]
    assert QuickOther(1) != QuickOther(1)
    assert len({QuickOther(1), QuickOther(1)}) == 2


def test_what_needs_more_is_pythons_own() -> None:
    assert QuickOrdered(1) < QuickOrdered(1, [1])
    assert QuickOrdered(1).b is not QuickOrdered(1).b
    for wrong in ({"frozen": True}, {"slots": True}, {}):
        with pytest.raises(TypeError, match="frozen classes with slots"):
            quick.dataclass(**wrong)
