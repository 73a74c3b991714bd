"""Gangs: groups of which all instances run together or none does.

Owns: when a gang stops as a whole, and when it has to wait before it is asked for again. Leaves to others: placing it
(``scheduling.gangs``), refusing half a gang (``state.apply_gangs``). The rules:

- A rollout or a drain replaces a gang as a whole: all of it stops, and nothing is asked for before all of it has.
- ``on_failure: restart``: when a member has ended (failed, was lost, could not start) the others stop, too; once none
  is left all are asked for together, after the longest backoff of any. If a member has failed for good the gang stays
  down. Members of a batch job that completed are done and do not come back.
- ``on_failure: replace``: the missing are asked for together while the others run on; a gang of which nothing runs is
  asked for as a whole.
"""

from __future__ import annotations

import enum

import numpy as np

from orchestrator.contract.model import Desired, GangFailure, GangSpec
from orchestrator.reconcile.table import BoolArray, Groups, Scene
from orchestrator.state.commands import Int32Array
from orchestrator.state.failures import Fate


class Cause(enum.IntEnum):
    """Why a gang stops as a whole."""

    BROKEN = 0
    OUTDATED = 1
    DRAINED = 2


def gang_of(groups: Groups, number: int) -> GangSpec | None:
    return groups.jobs[number].spec.groups[groups.places[number]].gang


def judge(scene: Scene, fate: Int32Array, wanted: BoolArray) -> tuple[dict[int, Cause], dict[int, str]]:
    """Gangs that stop as a whole, by group number, with the ``Cause``; and why others are not asked for now.

    ``fate``, ``wanted``: per instance, as ``gaps`` finds them.
    """
    stops: dict[int, Cause] = {}
    held: dict[int, str] = {}
    for number in np.flatnonzero(scene.groups.gang & scene.groups.active).tolist():
        gang = gang_of(scene.groups, number)
        assert gang is not None, "groups.gang says so"
        if scene.groups.holds[number] is not None and scene.groups.bases[number] is None:
            continue  # of no version that may be placed now, and what runs of another stays
        cause, reason = _judge(scene, number, gang, fate, wanted)
        if cause is not None:
            stops[number] = cause
        if reason:
            held[number] = reason
    return stops, held


def _judge(scene: Scene, number: int, gang: GangSpec, fate: Int32Array, wanted: BoolArray) -> tuple[Cause | None, str]:
    columns, groups, instances = scene.view.allocations, scene.groups, scene.instances
    here = slice(scene.bounds[number], scene.bounds[number + 1])
    newest, live = instances.newest[here], instances.live[here]
    ended = wanted[here] & ~live
    failed = int((ended & (fate[here] == Fate.FAILED)).sum())
    waiting = int((ended & (fate[here] == Fate.WAIT)).sum())
    if not live.any():
        if failed and gang.on_failure is GangFailure.RESTART:
            return None, f"{failed} of its gang failed for good"
        return None, f"{waiting} of its gang wait until they may start again" if waiting else ""
    rows = newest[live]
    leaving = columns.desired[rows] != Desired.RUN
    outdated = scene.rows.wrong[rows]
    draining = scene.rows.node_draining[rows]
    known = int((wanted[here] & live).sum()) + int((ended & (fate[here] == Fate.DONE)).sum())
    short = known < int(groups.count[number])
    going = int(leaving.sum())
    if outdated.any():
        return Cause.OUTDATED, "the version before of its gang stops first"
    if draining.any():
        return Cause.DRAINED, "its gang leaves a node that is being drained first"
    if leaving.any():
        return Cause.BROKEN, f"{going} of its gang are stopping first"
    if short and gang.on_failure is GangFailure.RESTART:
        return Cause.BROKEN, "the others of its gang stop first"
    return None, ""
