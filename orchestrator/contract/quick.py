"""Quicker frozen dataclasses: cheaper to define (``dataclass``), and to make by the hundred thousand (``quick_init``).

Owns: their methods. Leaves fields, slots and everything else of the class to ``dataclasses``. The rule: the classes are
the same, made, compared, copied and shown alike; only the time differs. Python's own compiles six methods for each
class, and the hundreds of them were a fifth of what a process needs to start.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")


def quick_init(kind: type[T]) -> type[T]:
    """Above ``@dataclass(frozen=True, slots=True)``: fills the slots by their descriptors, in two thirds of the
    time of ``object.__setattr__`` with their names. Raises ``TypeError`` for what such a class cannot have here."""
    wrong = _needs_more(kind)
    if wrong:
        raise TypeError(f"{kind.__name__}.{wrong} needs more than to be filled")
    _fill(kind)
    return kind


def _needs_more(kind: type) -> str:
    """The first field of a dataclass that more is to be done for than to fill it."""
    checked = hasattr(kind, "__post_init__")
    for field in dataclasses.fields(kind):
        if not field.init or field.default_factory is not dataclasses.MISSING or checked:
            return field.name
    return ""


def _fill(kind: Any) -> None:
    names: dict[str, Any] = {}
    given, lines, only_by_name = [], [], False
    for field in dataclasses.fields(kind):
        if field.kw_only and not only_by_name:
            only_by_name = True
            given.append("*")
        names[f"set_{field.name}"] = vars(kind)[field.name].__set__
        if field.default is dataclasses.MISSING:
            given.append(field.name)
        else:
            names[f"default_{field.name}"] = field.default
            given.append(f"{field.name}=default_{field.name}")
        lines.append(f"  set_{field.name}(self, {field.name})")
    # The text is made of field names alone, which are Python identifiers.
    text = [f"def create({', '.join(names)}):", f" def __init__(self, {', '.join(given)}):", *lines, " return __init__"]
    made: dict[str, Any] = {}
    exec("\n".join(text), vars(sys.modules[kind.__module__]), made)
    init = made["create"](**names)
    init.__qualname__ = f"{kind.__qualname__}.__init__"
    init.__annotations__ = {field.name: field.type for field in dataclasses.fields(kind)} | {"return": None}
    kind.__init__ = init


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(
        *, frozen: bool = False, slots: bool = False, kw_only: bool = False, eq: bool = True, order: bool = False
    ) -> Callable[[type[T]], type[T]]:
        """``dataclasses.dataclass(frozen=True, slots=True, ...)``, quicker to define."""
        if not frozen or not slots:
            raise TypeError("this is for frozen classes with slots")

        def make(kind: type[T]) -> type[T]:
            if not kind.__doc__:
                kind.__doc__ = kind.__name__  # Python's own lists the arguments, and works out a signature for that
            if order or not vars(kind).get("__annotations__") or not _is_plain(kind):
                return dataclasses.dataclass(frozen=True, slots=True, kw_only=kw_only, eq=eq, order=order)(kind)
            made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(kind)
            _fill(made)
            _furnish(made, eq=eq)
            return made

        return make


def _is_plain(kind: type) -> bool:
    """Whether a class that is to become a dataclass has but fields that are filled, and defaults that are values."""
    bases = kind.__mro__[1:-1]
    own = vars(kind)
    return (
        not bases and "__post_init__" not in own and not any(isinstance(one, dataclasses.Field) for one in own.values())
    )


def _furnish(kind: Any, *, eq: bool) -> None:
    """What is left to do behind ``dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)``."""
    fields = dataclasses.fields(kind)
    names = [field.name for field in fields]
    shown = [field.name for field in fields if field.repr]
    compared = [field.name for field in fields if field.compare]
    own = vars(kind)

    def show(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join([f'{name}={getattr(self, name)!r}' for name in shown])})"

    def get_state(self: Any) -> list[Any]:
        return [getattr(self, name) for name in names]

    def set_state(self: Any, values: list[Any]) -> None:
        for name, value in zip(names, values, strict=True):
            object.__setattr__(self, name, value)

    if "__repr__" not in own:
        kind.__repr__ = show
    kind.__setattr__, kind.__delattr__ = _refuse_to_set, _refuse_to_delete
    kind.__getstate__, kind.__setstate__ = get_state, set_state
    params = kind.__dataclass_params__
    params.init = params.repr = params.frozen = True
    if eq:
        params.eq = True

        def equal(self: Any, other: Any) -> Any:
            """Most classes are never compared: what does it is made when it is first needed, and takes this place."""
            ours, theirs = _listed("self", compared), _listed("other", compared)
            kind.__eq__ = made = _method(
                "__eq__(self, other)", f"{ours} == {theirs} if other.__class__ is self.__class__ else NotImplemented"
            )
            return made(self, other)

        def to_hash(self: Any) -> Any:
            kind.__hash__ = made = _method("__hash__(self)", f"hash({_listed('self', compared)})")
            return made(self)

        if "__eq__" not in own:
            kind.__eq__ = equal
        if own.get("__hash__") is None:
            kind.__hash__ = to_hash


def _listed(whose: str, names: list[str]) -> str:
    return f"({''.join(f'{whose}.{name},' for name in names)})"


def _method(head: str, value: str) -> Any:
    made: dict[str, Any] = {}
    exec(f"def {head}:\n return {value}", made)
    return made[head.partition("(")[0]]


def _refuse_to_set(self: object, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
