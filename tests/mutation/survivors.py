"""``SURVIVORS``: mutants that no test can or should kill, each with its reason.

The one rule: a reason says why nobody could see the difference (an equivalent mutant), or why seeing it would be no
promise. Whatever else survives is a missing test. A line names the function and what was changed in it, as
``scripts/mutation`` prints it, so it outlives moved lines.
"""

from __future__ import annotations

SURVIVORS: dict[str, dict[str, str]] = {
    "orchestrator.state.apply_jobs": {
        "_next_version: True -> False": (
            "equivalent: a job has one version for each of its groups, whoever made the record"
        ),
    },
    "orchestrator.replication.guard": {
        "Guard.__init__: 0 -> 1": "equivalent: without a voter in it, the voter set of term 1 is the one of term 0",
        "Guard.still_there: 0 -> 1": "equivalent: PySyncObj looks at the index only with reset or success",
        "Guard.still_there: False -> True (3)": (
            "equivalent: a success up to entry -1 is never more than what PySyncObj counts already"
        ),
        "Guard._reply: message['reset'] and self._guards.reject_to_commit -> self._guards.reject_to_commit": (
            "equivalent: the only other answer is to an installed snapshot, which ends at the commit index"
        ),
    },
}
