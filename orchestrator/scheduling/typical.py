"""Typical classes: the mix of requests that free devices are judged by, from counts that somebody kept.

Owns: which counted shapes are typical (those that cover 95 % of the instances, as in "Beware of Fragmentation", USENIX
ATC 2023, section 3.2), the prior while little is known, their weights. Leaves to others: counting (``state.typical``),
measuring with them (``fragments``, ``waste``). The rule: weights are whole numbers, and equal counts give equal
classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.contract.model import WHOLE_DEVICE, DeviceRequest
from orchestrator.state.typical import Shape

COVERED_PERCENT = 95

PRIOR: tuple[tuple[Shape, int], ...] = (
    (Shape(8_000, 1, WHOLE_DEVICE, 0, ()), 10),
    (Shape(4_000, 1, WHOLE_DEVICE // 2, 0, ()), 3),
    (Shape(4_000, 0, 0, 0, ()), 3),
    (Shape(16_000, 2, WHOLE_DEVICE, 0, ()), 2),
    (Shape(32_000, 4, WHOLE_DEVICE, 0, ()), 2),
    (Shape(64_000, 8, WHOLE_DEVICE, 0, ()), 2),
)
"""What a cluster of which nothing is known is expected to be asked for: mostly single GPUs with eight cores, some
halves and some without, few large ones. It counts like these 22 instances for ever, so that it means nothing once
hundreds were submitted, and nothing jumps when it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalClass:
    """``weight``: how many instances were counted; the class's popularity is this as a share of all weights."""

    cpu_millis: int
    gpus: DeviceRequest | None
    weight: int

    @property
    def shared(self) -> bool:
        """Whether it takes a part of one device."""
        return self.gpus is not None and self.gpus.count == 1 and self.gpus.gpu_millis < WHOLE_DEVICE


def typical_classes(
    counted: Iterable[tuple[Shape, int]], *, prior: bool = True, by_model: bool = False
) -> tuple[TypicalClass, ...]:
    """The most frequent shapes that together cover ``COVERED_PERCENT`` of what was counted, most frequent first, equal
    ones by their fields. ``prior``: count ``PRIOR`` as well. () if there is nothing.

    ``by_model``: classes are also told apart by the devices that they may have (models, memory), as in the paper. To
    choose a node it is better not to: devices of a model that is asked for less would count as fragments from the
    start, and to fill them as a gain (docs/placements/fragmentation.md).
    """
    counts: dict[Shape, int] = {}
    for shape, count in (*counted, *(PRIOR if prior else ())):
        if not by_model:
            shape = shape._replace(gpu_memory_mib=0, models=())
        counts[shape] = counts.get(shape, 0) + count
    total = sum(counts.values())
    found: list[TypicalClass] = []
    covered = 0
    for shape, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered * 100 >= COVERED_PERCENT * total:
            break
        covered += count
        gpus = None
        if shape.devices:
            gpus = DeviceRequest(
                count=shape.devices,
                gpu_millis=shape.gpu_millis,
                memory_mib=shape.gpu_memory_mib,
                models=shape.models,
            )
        found.append(TypicalClass(cpu_millis=shape.cpu_millis, gpus=gpus, weight=count))
    return tuple(found)
