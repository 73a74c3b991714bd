"""Host ports: unique per engine, which several nodes may share.

Owns: which ports are taken on which engine, whether a wish's ports fit, and which numbers it gets. The rule: a fixed
port is taken or the node is out; a free one is the next of the node's range that nobody on the engine has, from a place
on that is another one at every index of the log. Where it always was the lowest, an attempt that found its port in the
hands of somebody outside of the cluster had a successor with the same port, two clusters on one machine were after the
same few, and a port that one task left was the next one's while others still dialled the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from orchestrator.state.ledger import engine_key
from orchestrator.state.model import Node

GOLDEN = 2_654_435_769
"""2^32 divided by the golden ratio: multiples of it, modulo 2^32, are spread evenly, and neighbours far apart (Knuth,
The Art of Computer Programming 3, 6.4: Fibonacci hashing)."""


class _Engine:
    """One host: the ports taken, and for each range of its nodes how many are left and where to look next."""

    def __init__(self) -> None:
        self.taken: set[int] = set()
        self.left: dict[tuple[int, int], int] = {}
        self.next: dict[tuple[int, int], int] = {}

    def take(self, port: int) -> None:
        if port not in self.taken:
            self.taken.add(port)
            for span in self.left:
                if span[0] <= port <= span[1]:
                    self.left[span] -= 1

    def release(self, port: int) -> None:
        if port in self.taken:
            self.taken.discard(port)
            for span in self.left:
                if span[0] <= port <= span[1]:
                    self.left[span] += 1

    def following(self, span: tuple[int, int], besides: set[int]) -> int:
        """The caller has seen that there is one."""
        port = self.next[span]
        # Ports are only ever taken within a round, so the search never has to look back.
        while port in self.taken:
            port = port + 1 if port < span[1] else span[0]
        self.next[span] = port
        while port in self.taken or port in besides:
            port = port + 1 if port < span[1] else span[0]
        return port


class Ports:
    """The ports of all nodes, which are numbered as in the problem."""

    def __init__(self, nodes: Sequence[Node], index: int = 0) -> None:
        """``index``: of the log, for the place from which on free ports are looked for."""
        place = index * GOLDEN % 2**32
        self._engines: dict[str, _Engine] = {}
        self._engine: list[_Engine] = []
        self._span: list[tuple[int, int]] = []
        self._nodes_of: dict[int, list[int]] = {}
        for number, node in enumerate(nodes):
            engine = self._engines.setdefault(engine_key(node), _Engine())
            span = (node.spec.port_min, node.spec.port_max)
            size = max(0, span[1] - span[0] + 1)
            engine.left.setdefault(span, size)
            engine.next.setdefault(span, span[0] + (place * size >> 32))
            self._engine.append(engine)
            self._span.append(span)
            self._nodes_of.setdefault(id(engine), []).append(number)

    def occupy(self, node: int, ports: Iterable[int]) -> None:
        for port in ports:
            self._engine[node].take(port)

    def release(self, node: int, ports: Iterable[int]) -> None:
        """For a question only: what is released must be occupied again before anything is taken."""
        for port in ports:
            self._engine[node].release(port)

    def neighbours(self, node: int) -> list[int]:
        """Every node on the same engine, itself included."""
        return self._nodes_of[id(self._engine[node])]

    def taken(self, node: int, wanted: tuple[int, ...]) -> list[int]:
        """Which of the fixed ports are taken. A wish may name a number twice, by TCP and by UDP; nobody shares it."""
        taken = self._engine[node].taken
        return [port for port in dict.fromkeys(wanted) if port in taken]

    def missing(self, node: int, wanted: tuple[int, ...]) -> int:
        """How many free ports the node's range lacks for the wish."""
        engine, span = self._engine[node], self._span[node]
        picks = wanted.count(0)
        if not picks:
            return 0
        fixed = {port for port in wanted if port and span[0] <= port <= span[1] and port not in engine.taken}
        return max(0, picks - (engine.left[span] - len(fixed)))

    def fit(self, node: int, wanted: tuple[int, ...]) -> bool:
        return not self.taken(node, wanted) and self.missing(node, wanted) == 0

    def times(self, node: int, wanted: tuple[int, ...]) -> int:
        """How many instances one after the other get such ports on the node, as far as it alone takes any."""
        if not self.fit(node, wanted):
            return 0
        return 1 if any(wanted) else self._engine[node].left[self._span[node]] // len(wanted)

    def remember(self, nodes: Iterable[int]) -> Callable[[], None]:
        """A way back to what is taken now on the engines of these nodes."""
        engines = {id(self._engine[node]): self._engine[node] for node in nodes}.values()
        kept = [(engine, set(engine.taken), dict(engine.left), dict(engine.next)) for engine in engines]

        def restore() -> None:
            for engine, taken, left, following in kept:
                engine.taken, engine.left, engine.next = set(taken), dict(left), dict(following)

        return restore

    def take(self, node: int, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """Take them, fixed and picked, in the wish's order; the caller has seen that they fit."""
        engine, span = self._engine[node], self._span[node]
        fixed = {port for port in wanted if port}
        given = []
        for port in wanted:
            number = port or engine.following(span, fixed)
            engine.take(number)
            given.append(number)
        return tuple(given)
