"""Histories for the tests of the checker: short ones by hand, random ones from a register that is linearizable."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.ops.history import UNCONDITIONAL, Op, Operation, Unset, Value


def operation(
    op: Op,
    value: Value,
    call: int,
    returned: int,
    *,
    key: str = "k",
    expect: Value | Unset = UNCONDITIONAL,
    hit: bool = True,
    ok: bool | None = True,
    index: int = 0,
    process: int = 1,
) -> Operation:
    return Operation(
        process=process, op=op, key=key, value=value, expect=expect, hit=hit, ok=ok,
        call_ns=call, return_ns=returned, index=index,
    )  # fmt: skip


def recorded(
    choose: random.Random,
    count: int,
    *,
    clients: int = 4,
    keys: Sequence[str] = ("k",),
    values: int = 0,
    unknown: float = 0.0,
) -> list[Operation]:
    """A linearizable history: each client calls one operation after the other, each takes effect at a moment inside.

    ``values`` 0: every written value is unique, else so many different ones. ``unknown``: the share of operations
    without an outcome; half of those take effect, some of them long after.
    """
    effects: list[tuple[float, Operation, bool]] = []
    free_at = [0] * clients
    for number in range(count):
        client = choose.randrange(clients)
        call = free_at[client] + choose.randint(1, 10)
        returned = call + choose.randint(0, 20)
        free_at[client] = returned
        op = choose.choices(("get", "put", "cas", "delete"), (5, 3, 3, 1))[0]
        value: Value = None
        if op in ("put", "cas"):
            value = f"v{choose.randrange(values)}" if values else f"v{number}"
        made = operation(op, value, call, returned, key=choose.choice(keys), process=client)  # type: ignore[arg-type]
        happens = True
        moment = choose.uniform(call, returned)
        if choose.random() < unknown:
            made = replace(made, ok=None)
            happens = choose.random() < 0.5
            moment += choose.choice((0, 0, choose.uniform(0, 200)))
        effects.append((moment, made, happens))
    effects.sort(key=lambda effect: effect[0])
    state: dict[str, Value] = {}
    done: list[Operation] = []
    index = 1  # 0 would say "none"
    for _, made, happens in effects:
        if not happens:
            done.append(replace(made, hit=False, expect=None if made.op == "cas" else UNCONDITIONAL))
            continue
        before = state.get(made.key)
        if made.op == "get":
            made = replace(made, value=before, hit=before is not None)
        else:
            index += 1
            if made.op == "cas" or (made.op == "delete" and choose.random() < 0.5):
                expect = before if choose.random() < 0.7 else choose.choice((None, "v0", "v1"))
                made = replace(made, expect=expect, hit=expect == before)
            if made.hit:
                state[made.key] = made.value
        done.append(replace(made, index=index) if made.ok else replace(made, hit=False))
    done.sort(key=lambda made: made.return_ns)
    return done


def explained(operations: Sequence[Operation], *, by_index: bool = False) -> bool:
    """Whether any order of the operations on one key explains all answers: tries every one.

    ``by_index``: only orders in which what was answered stands by index, and a read behind the write at its index.
    """
    happened = [one for one in operations if one.ok is not False]
    return _explained(tuple(happened), None, by_index)


def _explained(waiting: tuple[Operation, ...], value: Value, by_index: bool) -> bool:
    if all(one.ok is None for one in waiting):
        return True
    return any(
        fits(one, value) and _explained((*waiting[:at], *waiting[at + 1 :]), left(one, value), by_index)
        for at, one in enumerate(waiting)
        if _may_be_next(one, waiting, by_index)
    )


def _may_be_next(one: Operation, waiting: Sequence[Operation], by_index: bool) -> bool:
    for other in waiting:
        if other.ok and other is not one:
            if other.return_ns < one.call_ns:
                return False
            if by_index and one.ok and _place(other) < _place(one):
                return False
    return True


def _place(one: Operation) -> tuple[int, bool, int]:
    conditional = one.op in ("cas", "delete") and not isinstance(one.expect, Unset)
    target = None if one.op == "delete" else one.value
    writes = one.op != "get" and (not conditional or (one.hit and one.expect != target))
    return one.index, not writes, one.call_ns


def fits(one: Operation, value: Value) -> bool:
    """Whether the register could give this answer, holding ``value``."""
    if one.op == "get":
        return one.ok is None or one.value == value
    if one.op == "put" or isinstance(one.expect, Unset) or one.ok is None:
        return True
    return (one.expect == value) == one.hit


def left(one: Operation, value: Value) -> Value:
    """What the register holds after it."""
    if one.op == "get" or (one.op != "put" and not isinstance(one.expect, Unset) and one.expect != value):
        return value
    return None if one.op == "delete" else one.value
