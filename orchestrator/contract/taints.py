"""Taints and tolerations: what keeps work off a node, what drives it away, and how users write both.

Owns: matching, and the text forms. Leaves to others: whose taints and since when (``state``), who leaves
(``reconcile.taints``). The rules: a toleration matches a taint if key, value and effect each agree or are unsaid; of
several that match, the most patient one counts. A toleration that ends after a delay lets what is there stay a while
and brings nothing new: it would only have to leave again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.contract.model import NodeTaint, Taint, TaintEffect, TaintKey, Toleration

KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_./-]{0,251}[A-Za-z0-9])?")
VALUE = re.compile(r"[A-Za-z0-9._/-]{0,253}")
TAINTS_MAX = 64
EFFECTS = {
    "NoSchedule": TaintEffect.NO_SCHEDULE,
    "PreferNoSchedule": TaintEffect.PREFER_NO_SCHEDULE,
    "NoExecute": TaintEffect.NO_EXECUTE,
}
_NAMES = {effect: name for name, effect in EFFECTS.items()}
EXPECTED = "expected key=value:Effect or key:Effect, with NoSchedule, PreferNoSchedule or NoExecute"


def describe(taint: Taint) -> str:
    """``gpu=only:NoSchedule``, ``old:NoExecute``."""
    return f"{taint.key}{f'={taint.value}' if taint.value else ''}:{_NAMES[taint.effect]}"


def effect_name(effect: TaintEffect) -> str:
    return _NAMES[effect]


def parse(text: str) -> Taint:
    """``gpu=only:NoSchedule``; raises ValueError with what was expected."""
    head, colon, name = text.strip().rpartition(":")
    key, _, value = head.partition("=")
    effect = EFFECTS.get(name)
    if not colon or effect is None:
        raise ValueError(f"{EXPECTED}, got {text[:80]!r}")
    taint = Taint(key=key, value=value, effect=effect)
    wrong = problem(taint)
    if wrong:
        raise ValueError(wrong)
    return taint


def parse_key(text: str) -> TaintKey:
    """``gpu`` or ``gpu:NoSchedule``: which taints to take away; raises ValueError."""
    key, colon, name = text.strip().partition(":")
    key = key.partition("=")[0]
    if not KEY.fullmatch(key) or (colon and name not in EFFECTS):
        raise ValueError(f"expected a taint's key, or key:Effect, got {text[:80]!r}")
    return TaintKey(key=key, effect=EFFECTS[name] if colon else None)


def problem(taint: Taint) -> str:
    """What is wrong with it, or ""."""
    if not KEY.fullmatch(taint.key):
        return f"a taint's key has letters, digits, '.', '_', '-' and '/', got {taint.key[:60]!r}"
    if not VALUE.fullmatch(taint.value):
        return f"a taint's value has letters, digits, '.', '_', '-' and '/', got {taint.value[:60]!r}"
    return ""


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    return (
        toleration.key in ("", taint.key)
        and (toleration.value is None or toleration.value == taint.value)
        and (toleration.effect is None or toleration.effect is taint.effect)
    )


def repelling(taints: Iterable[NodeTaint], tolerations: tuple[Toleration, ...]) -> Taint | None:
    """The first taint that keeps new work off, or None. One that ends after a delay does not help against NoExecute."""
    for one in taints:
        taint = one.taint
        if taint.effect is TaintEffect.PREFER_NO_SCHEDULE:
            continue
        lasting = (
            toleration
            for toleration in tolerations
            if taint.effect is TaintEffect.NO_SCHEDULE or toleration.delay_ms is None
        )
        if not any(tolerates(toleration, taint) for toleration in lasting):
            return taint
    return None


def unwelcome(taints: Iterable[NodeTaint], tolerations: tuple[Toleration, ...]) -> int:
    """How many PreferNoSchedule taints are not tolerated."""
    return sum(
        one.taint.effect is TaintEffect.PREFER_NO_SCHEDULE
        and not any(tolerates(toleration, one.taint) for toleration in tolerations)
        for one in taints
    )


def leaving(taints: Iterable[NodeTaint], tolerations: tuple[Toleration, ...]) -> tuple[int, Taint] | None:
    """When what runs there has to leave (cluster time in ms), and because of which taint; None: it may stay."""
    first: tuple[int, Taint] | None = None
    for one in taints:
        if one.taint.effect is not TaintEffect.NO_EXECUTE:
            continue
        delays = [toleration.delay_ms for toleration in tolerations if tolerates(toleration, one.taint)]
        if None in delays:
            continue
        due = one.since_ms + max((delay for delay in delays if delay is not None), default=0)
        if first is None or due < first[0]:
            first = (due, one.taint)
    return first
