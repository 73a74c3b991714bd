"""``Outbox``: frames that wait for the flush of a turn.

Owns: their order, and leaving out what a later frame of the same turn says as well. The one rule: frames to one peer
keep their order.
"""

from __future__ import annotations

from orchestrator.replication.v1 import peer_pb2 as pb


class Outbox:
    def __init__(self) -> None:
        self._frames: dict[str, list[pb.Frame]] = {}

    def send(self, peer_id: str, frame: pb.Frame) -> None:
        frames = self._frames.setdefault(peer_id, [])
        if frames and _says_as_well(frame, frames[-1]):
            frames[-1] = frame
        else:
            frames.append(frame)

    def take(self) -> dict[str, list[pb.Frame]]:
        """All of them by peer; the outbox is empty then."""
        taken, self._frames = self._frames, {}
        return taken

    def take_entries(self) -> dict[str, list[pb.Frame]]:
        """By peer, the new entries, as far as nothing else is queued before them."""
        taken: dict[str, list[pb.Frame]] = {}
        for peer_id, frames in self._frames.items():
            ahead = 0
            while ahead < len(frames) and frames[ahead].HasField("append"):
                ahead += 1
            if any(frame.append.entries for frame in frames[:ahead]):
                taken[peer_id] = frames[:ahead]
                del frames[:ahead]
        return taken


def _says_as_well(frame: pb.Frame, before: pb.Frame) -> bool:
    """Whether ``frame`` makes the frame queued right before it unnecessary."""
    if before.HasField("append") and frame.HasField("append"):
        old, new = before.append, frame.append
        return not old.entries and old.term == new.term and old.prev_index == new.prev_index
    if before.HasField("append_reply") and frame.HasField("append_reply"):
        first, second = before.append_reply, frame.append_reply
        return (
            first.success
            and second.success
            and not first.reset
            and first.term == second.term
            and first.next_index <= second.next_index
        )
    return False
