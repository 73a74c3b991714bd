"""What is free on each node twice over: as the problem's arrays, and as Python integers for decisions one by one.

Owns: bringing the one up to date from the other when it is read, and the log of touched nodes. Leaves to others:
taking. The rule: ask for ``arrays`` or ``lists`` before reading or taking, write there and only there until the other
is asked for, and note in ``log`` each node that was touched.

A read of a numpy scalar costs ten times that of a list's integer, which is more than a whole decision may cost.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.problem import Problem

AT_ONCE = 32
"""So many nodes are written faster by numpy than one by one."""


class Room:
    """``cpu``, ``memory``, ``disk``: free of each node, right while ``listed``. ``log``: node numbers, oldest first;
    who caches something about nodes remembers how far it has read."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.log: list[int] = []
        self.cpu: list[int] = []
        self.memory: list[int] = []
        self.disk: list[int] = []
        # Single values are written to a memoryview in half the time.
        self._views = [memoryview(column) for column in problem.free.T]
        self._same = -1  # how much of the log both sides know; -1: there are no lists yet
        self.listed = False  # the lists are current, and what the log has after that was written there

    def arrays(self) -> None:
        """Make ``problem.free`` current."""
        if not self.listed:
            return
        self.listed = False
        nodes = list(set(self.log[self._same :]))
        self._same = len(self.log)
        cpu, memory, disk = self.cpu, self.memory, self.disk
        if len(nodes) >= AT_ONCE:
            where = np.array(nodes)
            for free, listed in zip(self.problem.free.T, (cpu, memory, disk), strict=True):
                free[where] = [listed[node] for node in nodes]
            return
        free_cpu, free_memory, free_disk = self._views
        for node in nodes:
            free_cpu[node], free_memory[node], free_disk[node] = cpu[node], memory[node], disk[node]

    def lists(self) -> None:
        """Make ``cpu``, ``memory`` and ``disk`` current."""
        if self.listed:
            return
        self.listed = True
        free = self.problem.free
        if self._same < 0:
            self.cpu, self.memory, self.disk = free.T.tolist()
        elif self._same < len(self.log):
            nodes = list(set(self.log[self._same :]))
            for node, (cpu, memory, disk) in zip(nodes, free[nodes].tolist(), strict=True):
                self.cpu[node] = cpu
                self.memory[node] = memory
                self.disk[node] = disk
        self._same = len(self.log)
