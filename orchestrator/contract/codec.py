"""Dataclasses to protobuf messages and back, by name: a message and its dataclass have the same fields.

Owns: one pair of converters per (dataclass, message) pair, built once from the dataclass's type hints and the message's
descriptor. Leaves to others: which message goes where. The rule: decoding checks; a message that does not fit its
dataclass (unknown enum number, missing sub-message that has no default) raises ``CodecError`` with the field's path.

Supported field types: int, str, bool, bytes, float, IntEnum, another dataclass, ``X | None`` (absent sub-message or
``optional`` scalar), ``tuple[X, ...]`` (repeated), ``StrMap`` and ``IntMap`` (``map<string, string>`` and ``int64``).
Further types can be registered with ``register`` (the log's packed columns do that).
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from orchestrator.contract.model import IntMap, StrMap

D = TypeVar("D")
M = TypeVar("M", bound=Message)

_Put = Callable[[Message, Any], None]
_Take = Callable[[Message], Any]
_Convert = Callable[[Any], Any]


class CodecError(ValueError):
    """A message that does not fit its dataclass; the text names the field."""


_scalars: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}


def register(kind: type, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
    """Teach the codec a type that a scalar protobuf field carries (for example an array in ``bytes``)."""
    _scalars[kind] = (encode, decode)


class _Field(typing.NamedTuple):
    """``take``: from the message, whether or not the field is set there; ``convert``: the value of one that is set
    (None: as it is)."""

    name: str
    put: _Put
    take: _Take
    convert: _Convert | None


_plans: dict[type, tuple[_Field, ...]] = {}


def encode(value: Any, message: M) -> M:
    """Fill ``message`` (fresh) from the dataclass instance ``value`` and return it."""
    fill = _fillers.get(type(value))
    if fill is None:
        fill = _fillers[type(value)] = _filler(type(value))
    fill(message, value)
    return message


_fillers: dict[type, Callable[[Message, Any], None]] = {}


def _filler(kind: type) -> Callable[[Message, Any], None]:
    """What ``_maker_of_all`` is for decoding."""
    names: dict[str, Any] = {}
    lines = []
    for at, field in enumerate(_plan(kind)):
        if field.convert is None:
            # Nothing, 0 and False are what a message says by itself.
            lines += [f"    if value.{field.name}:", f"        message.{field.name} = value.{field.name}"]
        else:
            names[f"put_{at}"] = field.put
            lines.append(f"    put_{at}(message, value.{field.name})")
    exec("\n".join(["def fill(message, value):", *lines, "    return None"]), names)
    made: Callable[[Message, Any], None] = names["fill"]
    return made


def decode(kind: type[D], message: Message) -> D:
    """A ``kind`` made from ``message``; raises ``CodecError``."""
    make = _makers.get((kind, type(message)))
    if make is None:
        make = _makers[kind, type(message)] = _maker(kind, type(message))
    try:
        made: D = make(message)
        return made
    except ValueError:
        return _decode_slowly(kind, _plan(kind), message)


def _decode_slowly(kind: type[D], plan: tuple[_Field, ...], message: Message) -> D:
    """Field by field, to say which one does not fit."""
    values: dict[str, Any] = {}
    for field in plan:
        try:
            values[field.name] = field.take(message)
        except CodecError as error:
            raise CodecError(f"{field.name}{'' if str(error).startswith('[') else '.'}{error}") from None
        except ValueError as error:
            said = _no_such(field.convert, getattr(message, field.name)) or error
            raise CodecError(f"{field.name}: {said}") from None
    return kind(**values)


def _no_such(convert: _Convert | None, number: Any) -> str:
    """What an enum's field may hold, for whoever filled in something else; "" of other fields."""
    if not (isinstance(convert, type) and issubclass(convert, enum.IntEnum)):
        return ""
    return f"expected {', '.join(f'{one.name} ({int(one)})' for one in convert)}; got {number}"


_makers: dict[tuple[type, type], Callable[[Message], Any]] = {}


class _Missing:
    """In the place of what must be set."""


FEW = 12
"""Looking at so many fields costs less than asking which ones are set."""


def _maker(kind: type, message_type: type[Message]) -> Callable[[Message], Any]:
    plan = _plan(kind)
    return _maker_of_all(kind, plan) if len(plan) <= FEW else _maker_of_set(kind, message_type)


def _maker_of_all(kind: type, plan: tuple[_Field, ...]) -> Callable[[Message], Any]:
    """As a person would write it, one call with one argument a field: half of the time of any loop over fields.

    The log's commands, answers and statuses go through here by the hundred thousand. The text is made of field names
    alone, which are Python identifiers.
    """
    names: dict[str, Any] = {"kind": kind}
    arguments = []
    for at, field in enumerate(plan):
        if field.convert is None:
            arguments.append(f"{field.name}=m.{field.name}")
        else:
            names[f"take_{at}"] = field.take
            arguments.append(f"{field.name}=take_{at}(m)")
    made: Callable[[Message], Any] = eval(f"lambda m: kind({', '.join(arguments)})", names)
    return made


def _maker_of_set(kind: type, message_type: type[Message]) -> Callable[[Message], Any]:
    """Only the fields that are set are looked at: a job has sixty, sets a dozen, and every peer decodes every job."""
    empty = message_type()
    unset: dict[str, Any] = {}
    converters: dict[int, tuple[str, _Convert | None]] = {}
    required: list[str] = []
    for name, _, take, convert in _plan(kind):
        converters[empty.DESCRIPTOR.fields_by_name[name].number] = (name, convert)
        try:
            unset[name] = take(empty)
        except ValueError:
            unset[name] = _Missing
            required.append(name)

    def make(message: Message) -> Any:
        values = unset.copy()
        for descriptor, value in message.ListFields():
            known = converters.get(descriptor.number)
            if known is not None:
                name, convert = known
                values[name] = value if convert is None else convert(value)
        for name in required:
            if values[name] is _Missing:
                raise CodecError("is missing")
        return kind(**values)

    return make


def _plan(kind: type) -> tuple[_Field, ...]:
    plan = _plans.get(kind)
    if plan is None:
        if not dataclasses.is_dataclass(kind):
            raise CodecError(f"{kind.__name__} is not a dataclass")
        hints = typing.get_type_hints(kind)
        plan = tuple(_field(field.name, hints[field.name], field) for field in dataclasses.fields(kind))
        _plans[kind] = plan
    return plan


def _field(name: str, hint: Any, field: dataclasses.Field[Any]) -> _Field:
    default: Any = None
    has_default = field.default is not dataclasses.MISSING
    if has_default:
        default = field.default
    if hint in (StrMap, IntMap):
        return _Field(name, _put_map(name), lambda m: _pairs(getattr(m, name)), _pairs)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return _optional(name, inner)
    if origin is tuple:
        (inner, ellipsis) = typing.get_args(hint)
        if ellipsis is not ...:
            raise CodecError(f"{name}: only tuple[X, ...] is supported")
        return _repeated(name, inner)
    if dataclasses.is_dataclass(hint):
        return _message(name, typing.cast(type, hint), default, has_default)
    convert_in, convert_out = _converters(hint)

    def put(message: Message, value: Any) -> None:
        setattr(message, name, convert_in(value))

    def take(message: Message) -> Any:
        return convert_out(getattr(message, name))

    if convert_out is _same:
        return _Field(name, put, take, None)

    def take_enum(message: Message) -> Any:
        number = getattr(message, name)
        # UNSPECIFIED: what a hand-written client leaves out gets the dataclass's default.
        return default if number == 0 and has_default else convert_out(number)

    is_enum = isinstance(hint, type) and issubclass(hint, enum.IntEnum)
    return _Field(name, put, take_enum if is_enum else take, convert_out)


def _pairs(values: Any) -> StrMap | IntMap:
    return tuple(sorted(values.items()))


def _converters(hint: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    if hint in _scalars:
        return _scalars[hint]
    if isinstance(hint, type) and issubclass(hint, enum.IntEnum):
        return int, hint
    hint = getattr(hint, "__supertype__", hint)  # NewType
    if hint in (int, str, bool, bytes, float):
        return _same, _same
    raise CodecError(f"no converter for {hint!r}")


def _same(value: Any) -> Any:
    return value


def _put_map(name: str) -> _Put:
    def put(message: Message, value: StrMap | IntMap) -> None:
        if value:
            getattr(message, name).update(value)

    return put


def _optional(name: str, inner: Any) -> _Field:
    if dataclasses.is_dataclass(inner):
        kind = typing.cast(type, inner)

        def put_message(message: Message, value: Any) -> None:
            if value is not None:
                sub = getattr(message, name)
                sub.SetInParent()
                encode(value, sub)

        def take_message(message: Message) -> Any:
            return decode(kind, getattr(message, name)) if message.HasField(name) else None

        return _Field(name, put_message, take_message, lambda sub: decode(kind, sub))
    convert_in, convert_out = _converters(inner)

    def put(message: Message, value: Any) -> None:
        if value is not None:
            setattr(message, name, convert_in(value))

    def take(message: Message) -> Any:
        return convert_out(getattr(message, name)) if message.HasField(name) else None

    return _Field(name, put, take, convert_out)


def _repeated(name: str, inner: Any) -> _Field:
    if dataclasses.is_dataclass(inner):
        kind = typing.cast(type, inner)

        def put_messages(message: Message, values: Any) -> None:
            if not values:
                return
            add = getattr(message, name).add
            for value in values:
                encode(value, add())

        def convert_messages(subs: Any) -> Any:
            try:
                return tuple([decode(kind, sub) for sub in subs])
            except CodecError:
                return tuple([_decode_at(kind, sub, at) for at, sub in enumerate(subs)])

        return _Field(name, put_messages, lambda message: convert_messages(getattr(message, name)), convert_messages)
    convert_in, convert_out = _converters(inner)

    def put(message: Message, values: Any) -> None:
        if values:
            getattr(message, name).extend([convert_in(value) for value in values])

    def convert(values: Any) -> Any:
        return tuple(values) if convert_out is _same else tuple([convert_out(value) for value in values])

    return _Field(name, put, lambda message: convert(getattr(message, name)), convert)


def _decode_at(kind: type, sub: Message, at: int) -> Any:
    try:
        return decode(kind, sub)
    except CodecError as error:
        raise CodecError(f"[{at}].{error}") from None


def _message(name: str, kind: type, default: Any, has_default: bool) -> _Field:
    def put(message: Message, value: Any) -> None:
        sub = getattr(message, name)
        sub.SetInParent()
        encode(value, sub)

    def take(message: Message) -> Any:
        if not message.HasField(name):
            if has_default:
                return default
            raise ValueError("is missing")
        return decode(kind, getattr(message, name))

    return _Field(name, put, take, lambda sub: decode(kind, sub))
