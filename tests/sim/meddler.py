"""``Meddler``: what a network that keeps its rule would not do, and what the guards must stand all the same.

Owns: duplicated votes (S4), snapshot chunks with a wrong byte (S7), appends with a command that nobody proposed (S15),
and appends that say less of what is committed than their leader knows (S19; an older leader would have said no more).
Leaves delays and losses to ``wires``. The one rule: it only meddles as much as its schedule says.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from orchestrator.replication.v1 import peer_pb2 as pb
from tests.sim.holes import Holes
from tests.sim.peer import SimPeer


class Meddler:
    """The wires' tap. The chances are those of each frame of the kind."""

    def __init__(
        self,
        peers: Mapping[str, SimPeer],
        holes: Holes,
        rng: random.Random,
        *,
        votes: float,
        chunks: float,
        foreign: float,
        commits: float,
    ) -> None:
        self._peers = peers
        self._holes = holes
        self._rng = rng
        self._votes = votes
        self._chunks = chunks
        self._foreign = foreign
        self._commits = commits
        self.on = True

    def tap(self, source_id: str, target_id: str, frame: pb.Frame) -> Sequence[pb.Frame]:
        frames = [frame]
        if self.on:
            kind = frame.WhichOneof("kind")
            if kind == "vote_reply" and self._happens(self._votes):
                frames.append(frame)
            elif kind == "snapshot_chunk" and frame.snapshot_chunk.data and self._happens(self._chunks):
                frames = [self._damaged(frame)]
            elif kind == "append" and frame.append.entries and self._happens(self._foreign):
                frames.insert(0, self._with_foreign(frame))
            if kind == "append" and self._happens(self._commits):
                frames = [self._knowing_less(one) for one in frames]
        source, target = self._peers[source_id], self._peers[target_id]
        for one in frames:
            self._holes.see(source, target, one)
        return frames

    def _happens(self, chance: float) -> bool:
        return bool(chance) and self._rng.random() < chance

    def _damaged(self, frame: pb.Frame) -> pb.Frame:
        copy = pb.Frame.FromString(frame.SerializeToString())
        data = bytearray(copy.snapshot_chunk.data)
        data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
        copy.snapshot_chunk.data = bytes(data)
        return copy

    def _with_foreign(self, frame: pb.Frame) -> pb.Frame:
        """The same append with one more entry, of a kind that unpickles or changes the members in PySyncObj."""
        copy = pb.Frame.FromString(frame.SerializeToString())
        copy.append.entries.add(term=copy.append.term, data=self._rng.choice((b"\x02", b"\x03", b"\x04")) + b"evil")
        return copy

    def _knowing_less(self, frame: pb.Frame) -> pb.Frame:
        """The same append from a leader that knows of no commit: the receiver learns of them by another."""
        copy = pb.Frame.FromString(frame.SerializeToString())
        copy.append.commit_index = 1
        return copy
