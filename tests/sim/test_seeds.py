"""Runs of the seeded simulator: every promise is kept under every fault. ``scripts/soak`` runs thousands.

``scripts/test fast`` runs a few of them, ``scripts/test`` all (marked ``soak``).
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.effort import seeds
from tests.sim.holes import MEANINGS
from tests.sim.run import replay_command, run_seed

FAST = range(30, 32)
"""None of them long."""
ALL = 300
RARE = {"S2", "S3", "S5", "S6", "S8", "S19"}
"""Not in every few dozen runs: ``scripts/soak`` counts them."""


def _keeps_every_promise(seed: int) -> None:
    peers = 3 + seed % 2 * 2
    outcome = run_seed(seed, peers)
    assert not outcome.error, f"{outcome.error}\n  replay: {replay_command(seed, peers)}\n" + "\n".join(
        outcome.last_lines
    )
    assert outcome.commands, f"seed {seed} tested nothing"


@pytest.mark.parametrize("seed", seeds(range(ALL), fast=FAST))
def test_every_promise_is_kept(seed: int) -> None:
    _keeps_every_promise(seed)


@pytest.mark.soak
def test_few_runs_reach_nearly_every_hole() -> None:
    reached: Counter[str] = Counter()
    acknowledged = reads = 0
    for seed in range(ALL, ALL + 40):
        outcome = run_seed(seed, 3 + seed % 2 * 2)
        reached.update(outcome.holes)
        acknowledged, reads = acknowledged + outcome.acknowledged, reads + outcome.reads
        if acknowledged > 1000 and reads > 500 and all(reached[name] for name in MEANINGS.keys() - RARE):
            break  # as few as it takes
    assert acknowledged > 1000 and reads > 500, "the clients hardly got through"
    missed = {name for name in MEANINGS if not reached[name]}
    assert missed <= RARE, {name: MEANINGS[name] for name in sorted(missed)}
