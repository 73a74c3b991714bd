"""What the state was: earlier states of this peer, kept as starting points and the commands after them.

Owns: ``Past``, a ``StateMachine`` around another that remembers what it applies, within a bound. Leaves to others: what
is asked of an earlier state (``foresight``), durability (the journal and snapshots, which need none of this). The rule:
an earlier state is made by applying the very commands again, so it is exact or it is not known at all.

How far back. Every peer remembers by itself, so what is known does not depend on who led, and a new leader knows as
much as the old one did. A peer that restarts begins with the snapshot that it starts from, where that is small, else
with its start; others may still know more, and are asked (``explain``). All of it lies in memory: ``memory_bytes`` at
most, oldest forgotten first; nothing is promised beyond that, and every answer says what is known.

A *stretch* is one starting point (an encoded, compressed snapshot) and commands after it. When a stretch has become
long, a new one begins: the state is copied on the loop as for a snapshot and encoded in a thread; then the commands of
the one before it are compressed there too. That is done seldom (``STRETCH_S``, and never for more than a hundredth of
the time), so under very heavy load there may be gaps; and a cluster of more than ``LARGEST_ROWS`` rows keeps no past.
"""

from __future__ import annotations

import asyncio
import bisect
import time
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import structlog

from orchestrator.api.around import Around
from orchestrator.api.watch import HashedMachine
from orchestrator.config import PAST_BYTES
from orchestrator.contract.errors import OutOfRangeError, PreconditionError
from orchestrator.contract.foresight import KnownSpan
from orchestrator.replication.machine import ClusterMachine
from orchestrator.state.state import State

logger = structlog.get_logger(__name__)

STRETCH_BYTES = 2 * 1024 * 1024
"""Of commands; applying them again takes about as long as 50,000 rows do."""
STRETCHES = 8
"""As many fit at least, as far as their starting points are small."""
STRETCH_S = 30.0
"""Between the beginnings of two stretches of the usual size, at least; of smaller ones in proportion."""
COST_SHARE = 100
"""And so many times what beginning the last one took."""
SMALL_SNAPSHOT_BYTES = 4 * 1024 * 1024
"""A snapshot of at most so many bytes is kept as it is read; a larger one would make a restart slower."""
OVERDUE = 2
"""A stretch of so many times its length ends even if no other may begin yet."""
LARGEST_ROWS = 250_000
"""Of the allocation table: copying a larger one would take too much memory beside everything else."""
COMMAND_BYTES = 120
"""What a command counts beside its bytes as long as it is not packed, about."""
PACKED_COMMAND_BYTES = 3 * 8
"""And then: an index, a time and an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Commands in order, by ``iter``: ``data`` holds perhaps more than these, ``ends`` where each of these ends."""

    data: bytes
    ends: array[int]

    @classmethod
    def of(cls, commands: Sequence[bytes]) -> Packed:
        """Takes a fiftieth of the time that applying them does."""
        return cls(data=zlib.compress(b"".join(commands), 1), ends=array("Q", accumulate(map(len, commands))))

    def first(self, count: int) -> Packed:
        return Packed(data=self.data, ends=self.ends[:count])

    def __iter__(self) -> Iterator[bytes]:
        data = zlib.decompress(self.data)
        return (data[begin:end] for begin, end in pairwise((0, *self.ends)))


@dataclass(slots=True, kw_only=True, eq=False)
class _Stretch:
    """``start``: the starting point, compressed; None while it is being encoded. Per command after it: ``indexes`` and
    ``times`` (cluster time) right after it, and its bytes: in ``commands`` until no more come, then in ``packed``.
    """

    first_index: int
    first_time_ms: int
    start: bytes | None
    indexes: array[int] = field(default_factory=lambda: array("Q"))
    times: array[int] = field(default_factory=lambda: array("Q"))
    commands: list[bytes] = field(default_factory=list)
    command_bytes: int = 0
    packed: Packed | None = None

    @property
    def last_index(self) -> int:
        return self.indexes[-1] if self.indexes else self.first_index

    @property
    def last_time_ms(self) -> int:
        return self.times[-1] if self.times else self.first_time_ms

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        commands = self.command_bytes
        if self.packed is not None:
            commands = len(self.packed.data) + PACKED_COMMAND_BYTES * len(self.indexes)
        return commands + len(self.start or b"")

    def pack(self, packed: Packed) -> None:
        self.packed = packed
        self.commands = []

    def span(self) -> KnownSpan:
        return KnownSpan(
            first_index=self.first_index,
            first_time_ms=self.first_time_ms,
            last_index=self.last_index,
            last_time_ms=self.last_time_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to make an earlier state again; values only, so ``cook`` may run in a thread."""

    index: int
    time_ms: int
    start: bytes
    commands: Iterable[bytes]

    def cook(self) -> State:
        """The state at ``index``. Raises ``PreconditionError`` if that fails, which would be a mistake of ours."""
        machine = ClusterMachine()
        machine.restore(zlib.decompress(self.start))
        for payload in self.commands:
            machine.apply(payload)
        if machine.index != self.index:
            raise PreconditionError(f"the past came out at index {machine.index} and not at {self.index}")
        return machine.state


class Past(Around[HashedMachine]):
    """Wrap the machine that decodes and applies; ``state`` gives its state. ``run`` begins new stretches, and must run
    for anything to be remembered beyond the first one. ``settle_s``: so long after a large state was read, or made by
    applying a long log, none is begun, for that means to encode it, and peers that start together have better things
    to do."""

    def __init__(
        self,
        machine: HashedMachine,
        state: Callable[[], State],
        *,
        memory_bytes: int = PAST_BYTES,
        stretch_bytes: int = STRETCH_BYTES,
        settle_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(machine)
        self._state = state
        self._memory_bytes = memory_bytes
        self._stretch_bytes = min(stretch_bytes, memory_bytes // STRETCHES)  # one is kept whatever its size
        self._settle_s = settle_s
        self._clock = clock
        self._stretches: list[_Stretch] = []
        self._recording: list[_Stretch] = []  # two while the start of the second is being encoded
        self._due = asyncio.Event()
        self._next_at = float("-inf")
        self._missed_bytes = 0  # of commands that were applied while nothing was recorded

    # ------------------------------------------------------------------ the state machine

    def apply(self, payload: bytes) -> object:
        outcome = self._machine.apply(payload)
        if not self._recording:
            self._due.set()
            self._miss(len(payload) + COMMAND_BYTES)
        for stretch in self._recording:
            stretch.indexes.append(self._machine.index)
            stretch.times.append(self._state().time_ms)
            stretch.commands.append(payload)
            stretch.command_bytes += len(payload) + COMMAND_BYTES
        if self._recording and self._recording[-1].command_bytes >= self._stretch_bytes:
            self._due.set()
            if self._recording[-1].command_bytes >= OVERDUE * self._stretch_bytes:
                self._recording = []  # better a gap than memory without end
        return outcome

    def _miss(self, size: int) -> None:
        before, self._missed_bytes = self._missed_bytes, self._missed_bytes + size
        if before < self._stretch_bytes <= self._missed_bytes:
            self._settle()

    def _settle(self) -> None:
        self._next_at = max(self._next_at, self._clock() + self._settle_s)

    def capture_hash(self) -> Callable[[], str]:
        return self._machine.capture_hash()

    def prepare(self, data: bytes) -> Callable[[], None]:
        put = self._machine.prepare(data)
        start = zlib.compress(data, 1) if len(data) <= SMALL_SNAPSHOT_BYTES else None
        if start is not None and len(start) > self._memory_bytes:
            start = None

        def put_and_begin() -> None:
            put()
            self._recording = []
            if start is None:
                self._settle()
                self._due.set()
            else:
                self._begin(start)

        return put_and_begin

    # ------------------------------------------------------------------ remembering

    async def run(self) -> None:
        """Begin stretches when they are due; never returns, except when cancelled."""
        while True:
            await self._due.wait()
            await asyncio.sleep(max(0.0, self._next_at - self._clock()))
            self._due.clear()
            await self.begin()

    async def begin(self) -> None:
        """Begin a stretch with the state as it is now; nothing where that is too large."""
        began = self._clock()
        if self._state().table.high <= LARGEST_ROWS:
            encode = self._machine.capture()
            stretch = self._begin(None)
            try:
                start = await asyncio.to_thread(_compressed, encode)
                stretch.start = start if len(start) <= self._memory_bytes else None
            except Exception:
                logger.exception("the past could not be kept")
            if stretch in self._recording:
                self._recording = [stretch] if stretch.start is not None else []
            if stretch.start is None and stretch in self._stretches:
                self._stretches.remove(stretch)
        pause_s = STRETCH_S * min(1.0, self._stretch_bytes / STRETCH_BYTES)
        self._next_at = self._clock() + max(pause_s, COST_SHARE * (self._clock() - began))
        await self._pack()
        self._forget()

    def _begin(self, start: bytes | None) -> _Stretch:
        state = self._state()
        stretch = _Stretch(first_index=state.index, first_time_ms=state.time_ms, start=start)
        if self._stretches and self._stretches[-1].first_index > state.index:
            self._stretches, self._recording = [], []  # another history than the one that we knew
        self._stretches.append(stretch)
        self._missed_bytes = 0
        self._recording = [*self._recording[-1:], stretch] if start is None else [stretch]
        self._forget()
        return stretch

    async def _pack(self) -> None:
        """The commands of every stretch that is over."""
        for stretch in [one for one in self._stretches if one.packed is None and one not in self._recording]:
            stretch.pack(await asyncio.to_thread(Packed.of, stretch.commands))

    def _forget(self) -> None:
        """Drop the oldest stretches until the rest fits, with the commands to come; the one being recorded stays."""
        while len(self._stretches) > 1 and self.memory_bytes + self._stretch_bytes > self._memory_bytes:
            del self._stretches[0]

    # ------------------------------------------------------------------ asking

    @property
    def memory_bytes(self) -> int:
        """What all that is remembered takes, about."""
        return sum(one.size for one in self._stretches)

    def known(self) -> tuple[KnownSpan, ...]:
        """What can be asked for, oldest first; spans that touch are one."""
        spans: list[KnownSpan] = []
        for stretch in self._stretches:
            if stretch.start is None:
                continue
            span = stretch.span()
            if spans and spans[-1].last_index >= span.first_index:
                before = spans.pop()
                span = KnownSpan(
                    first_index=before.first_index,
                    first_time_ms=before.first_time_ms,
                    last_index=max(before.last_index, span.last_index),
                    last_time_ms=max(before.last_time_ms, span.last_time_ms),
                )
            spans.append(span)
        return tuple(spans)

    def recipe(self, *, index: int = 0, time_ms: int = 0) -> Recipe:
        """Of the state after command ``index``, or of the last state not later than ``time_ms``.

        Raises ``OutOfRangeError`` where that is not known here (``Past.known`` says what is).
        """
        for stretch in reversed(self._stretches):
            if stretch.start is None:
                continue
            if index:
                count = bisect.bisect_left(stretch.indexes, index) + 1
                if index == stretch.first_index:
                    count = 0
                elif not stretch.first_index < index <= stretch.last_index:
                    continue
            else:
                if time_ms < stretch.first_time_ms or not self._covers(stretch, time_ms):
                    continue
                count = bisect.bisect_right(stretch.times, time_ms)
            # A command of several writes moves the index on by as many: the state after all of them is meant.
            return Recipe(
                index=stretch.indexes[count - 1] if count else stretch.first_index,
                time_ms=stretch.times[count - 1] if count else stretch.first_time_ms,
                start=stretch.start,
                commands=stretch.packed.first(count) if stretch.packed is not None else stretch.commands[:count],
            )
        raise OutOfRangeError("that is not known here")

    def _covers(self, stretch: _Stretch, time_ms: int) -> bool:
        """Whether nothing was applied between the stretch's end and that time that it does not have."""
        return time_ms <= stretch.last_time_ms or stretch.last_index == self._machine.index


def _compressed(encode: Callable[[], Iterable[bytes]]) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join([*(packer.compress(part) for part in encode()), packer.flush()])
