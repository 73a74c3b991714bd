"""Waiting for a job: what it is waiting for, what it shows meanwhile, and how it ends.

Owns: the judgement of a job's progress (``judge``, a function of values) and the loop around it. The rule: the exit
code tells what is, not what is hoped: unplaced is 3, failed is 4, out of time is 5.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from orchestrator.cli.ps import explanation_text
from orchestrator.cli.session import Session
from orchestrator.cli.views import leaving, newest
from orchestrator.contract.errors import ExitCode, NoLeaderError, RaftsmanError
from orchestrator.contract.model import AllocState, JobType
from orchestrator.contract.rollouts import RolloutStatus

if TYPE_CHECKING:
    from orchestrator.client.sync import Client
    from orchestrator.contract.answers import JobStatus
    from orchestrator.contract.model import Allocation, JobSpec

POLL_S = (0.1, 0.5)
UNPLACED_S = 60.0
"""Without --timeout: nothing placed and nothing moving for so long is "no room"."""
SETTLED_S = 2.0
"""What started must run for so long, without a restart, before it counts as up: much fails in its first second."""
LEAVING_S = 30.0
"""All is ready at the new version, and the older ones are told to stop: beyond their grace for so long, their end is no
longer waited for. The new version is there; what keeps an old process from ending is a matter of its own."""
REASONS_S = 1.5
"""Nothing moved for so long: say what it waits for."""
REASONS_SHOWN = 5
LOG_LINES = 10
FAILURES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    exit_code: int
    job: JobStatus
    allocations: list[Allocation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """``done``: as asked. ``failed``: something failed for good, and nothing is under way. Else in between. ``held``:
    it waits for a person; ``canaries``: to promote them, once they have run for a moment. ``leaving``: all that was
    asked for is there, but older ones have not ended."""

    done: bool = False
    failed: bool = False
    pending: int = 0
    text: str = ""
    held: bool = False
    canaries: bool = False
    leaving: bool = False


def judge(job: JobStatus, version: int) -> Judgement:
    """How the job stands against what was asked for with ``version``."""
    running = sum(group.running for group in job.groups)
    starting = sum(group.starting for group in job.groups)
    pending = sum(group.pending + group.lost for group in job.groups)
    failed = sum(group.failed for group in job.groups)
    complete = sum(group.complete for group in job.groups)
    skipped = sum(group.skipped for group in job.groups)
    outdated = sum(group.outdated for group in job.groups)
    beside = sum(group.surplus for group in job.groups)
    total = sum(group.count for group in job.groups)
    parts = [(running, "running"), (starting, "starting"), (beside, "beside their successors")]
    parts += [(pending, "pending"), (complete, "complete")]
    updated = sum(group.updated for group in job.groups) if outdated else 0
    parts += [(failed, "failed"), (skipped, "skipped"), (updated, "updated"), (outdated, "to be replaced")]
    text = ", ".join(f"{number} {word}" for number, word in parts if number) or "nothing to run"
    if job.version < version:
        return Judgement(pending=pending, text=text)
    if job.stopped:
        return Judgement(failed=True, pending=0, text="it was stopped")
    moving = starting + pending + outdated
    unready = sum(max(0, min(group.count, group.running) - group.ready) for group in job.groups)
    if unready and job.spec.type is JobType.SERVICE:
        text += f", {unready} not ready"
    verdict = _verdict(job, version, text)
    if verdict is not None:
        return verdict
    if job.spec.is_template:
        return Judgement(done=not running and not starting, text=job.state)
    if job.spec.type is JobType.BATCH:
        done = job.state == "complete"
        return Judgement(done=done, failed=job.state == "failed", pending=pending, text=text)
    there = not starting and not pending and not failed
    return Judgement(
        done=not moving and not failed and running >= total and not (unready and job.spec.type is JobType.SERVICE),
        failed=failed > 0 and not starting and not pending,
        pending=pending,
        text=text,
        leaving=bool(outdated) and there and all(group.updated >= group.count for group in job.groups),
    )


def _verdict(job: JobStatus, version: int, text: str) -> Judgement | None:
    """What the rollout itself says, where that decides."""
    rollout = job.rollout
    if rollout is None or job.spec.type is not JobType.SERVICE:
        return None
    if rollout.reverts and rollout.reverts >= version:
        back = f"rolled back, as version {job.version}: {rollout.reason}"
        if rollout.status is RolloutStatus.RUNNING:
            return Judgement(text=f"{text}; being {back}")
        return Judgement(failed=True, text=back)
    if rollout.status is RolloutStatus.FAILED:
        return Judgement(failed=True, text=rollout.reason)
    if rollout.status is RolloutStatus.PAUSED:
        return Judgement(held=True, text=f"{text}; paused (raftsman resume {job.spec.name})")
    wanted = {group.name: group.update.canaries if group.update else 0 for group in job.spec.groups}
    if not rollout.promoted and all(one.updated >= min(wanted.get(one.group, 0), one.count) for one in job.groups):
        return Judgement(held=True, canaries=True, text=f"{text}; canaries wait (raftsman promote {job.spec.name})")
    return None


class Rollout:
    """Waits for ``spec`` at ``version``; shows how it goes on stderr, and of what failed the last output unless the
    caller shows all of it."""

    def __init__(
        self, session: Session, client: Client, spec: JobSpec, version: int, *, shows_output: bool = True
    ) -> None:
        self._session = session
        self._client = client
        self._spec = spec
        self._version = version
        self._shows_output = shows_output
        self._runs: frozenset[tuple[str, int, int]] = frozenset()
        self._runs_since = 0.0
        self._told: set[str] = set()

    def wait(self) -> Ended:
        began = moved = time.monotonic()
        before: object = None
        asked = began
        pending: int | None = None
        out_of_time = False
        left: list[str] = []
        pause_s = POLL_S[0]
        with _progress(self._session) as tell:
            while True:
                job = self._job()
                judgement = judge(job, self._version)
                now = time.monotonic()
                if job.groups != before:
                    before, moved, pause_s = job.groups, now, POLL_S[0]
                    tell(f"{self._spec.name}: {judgement.text}")
                # What waits again after it had a node failed to start, and may be tried again soon: say so at once.
                came_back = pending is not None and judgement.pending > pending
                pending = judgement.pending
                limit_s = self._session.timeout_s
                stands = judgement.done or judgement.canaries
                if stands and (self._settled(job, now) or (limit_s is not None and now - began >= limit_s)):
                    break
                if (came_back or now - max(moved, asked) >= REASONS_S) and not job.stopped:
                    asked = now
                    self._tell_reasons(tell, judgement)
                if judgement.leaving and now - moved >= LEAVING_S + self._longest_grace_s():
                    left = self._leaving(job)
                    if left:
                        break
                if judgement.failed or (judgement.held and not judgement.canaries):
                    break
                if limit_s is not None:
                    out_of_time = now - began >= limit_s
                elif judgement.pending and now - moved >= UNPLACED_S:
                    out_of_time = self._unplaced(judgement)
                    moved = now  # else what failed to start waits for its next try, which may be minutes away
                if out_of_time:
                    break
                time.sleep(pause_s)
                pause_s = min(POLL_S[1], pause_s * 1.3)
        # Below the live display, which is gone by now.
        if judgement.done:
            return self._ended(ExitCode.OK, job)
        if left:
            for one in left[:REASONS_SHOWN]:
                self._session.warn(f"{self._spec.name}: {one} was told to stop and still runs")
            return self._ended(ExitCode.OK, job)
        if judgement.held:
            click.echo(f"raftsman: {self._spec.name}: {judgement.text}", err=True)
            return self._ended(ExitCode.OK, job)
        if out_of_time:
            return self._out_of_time(job, judgement, now - began)
        ended = self._ended(ExitCode.ROLLOUT_FAILED, job)
        placed = self._client.list_allocations(job=self._spec.name, namespace=self._spec.namespace)
        self._show_failures(list(placed.allocations), judgement)
        return ended

    def _longest_grace_s(self) -> float:
        return max(task.stop.timeout_ms for group in self._spec.groups for task in group.tasks) / 1000

    def _leaving(self, job: JobStatus) -> list[str]:
        """Who is all that is left of older versions, if each of them was told to stop."""
        placed = self._client.list_allocations(job=self._spec.name, namespace=self._spec.namespace).allocations
        left = leaving(placed)
        return left if len(left) >= sum(group.outdated for group in job.groups) else []

    def _settled(self, job: JobStatus, now: float) -> bool:
        """Whether exactly these runs have been up for long enough; asked only while all are up, as ``job`` says."""
        if self._spec.type is JobType.BATCH:
            return True
        placed = self._client.list_allocations(job=self._spec.name, namespace=self._spec.namespace).allocations
        runs = frozenset((str(one.id), one.attempt, one.restarts) for one in placed if one.state is AllocState.RUNNING)
        if runs != self._runs:
            self._runs, self._runs_since = runs, now
        if not runs:  # nothing is to run, or all of it has ended since ``job`` was asked for
            return not any(group.running for group in job.groups)
        return now - self._runs_since >= SETTLED_S

    def _tell_reasons(self, tell: _Tell, judgement: Judgement) -> None:
        """What it waits for, each reason once: why nothing fits, what an agent has trouble with."""
        name, namespace = self._spec.name, self._spec.namespace
        reasons: list[str] = []
        if judgement.pending:
            explanation = self._client.explain_job(name, namespace=namespace)
            reasons += [f"{one.group}: {one.summary}" for one in explanation.groups if one.pending and one.summary]
        placed = self._client.list_allocations(job=name, namespace=namespace).allocations
        reasons += [f"{one} was told to stop and still runs" for one in leaving(placed)]
        for one in newest(placed):
            # What failed is in the explanation while it will be tried again, and shown at the end else.
            if one.reason and one.state not in (AllocState.RUNNING, AllocState.COMPLETE, AllocState.FAILED):
                reasons.append(f"{one.id}: {one.state.name.lower()}: {one.reason}")
        for reason in reasons[:REASONS_SHOWN]:
            essence = re.sub(r"\d+ s\b", "", reason)  # the seconds to the next try change all the time
            if essence not in self._told:
                self._told.add(essence)
                tell.line(f"  {reason}")

    def _job(self) -> JobStatus:
        found = self._client.get_job(self._spec.name, namespace=self._spec.namespace)
        if found.read.stale:
            raise NoLeaderError("the leader is gone and no other is elected; the job itself was accepted")
        return found.job

    def _ended(self, code: ExitCode, job: JobStatus) -> Ended:
        placed = self._client.list_allocations(job=self._spec.name, namespace=self._spec.namespace)
        return Ended(exit_code=code, job=job, allocations=newest(placed.allocations))

    def _out_of_time(self, job: JobStatus, judgement: Judgement, waited_s: float) -> Ended:
        name = self._spec.name
        click.echo(f"raftsman: {name}: after {waited_s:.0f} s: {judgement.text}", err=True)
        if not self._unplaced(judgement):
            ended = self._ended(ExitCode.TIMEOUT, job)
            self._show_failures([one for one in ended.allocations if one.reason], judgement, quiet=True)
            return ended
        try:
            text = explanation_text(self._client.explain_job(name, namespace=self._spec.namespace))
            click.echo("\n".join(f"  {line}" for line in text.splitlines()), err=True)
        except RaftsmanError as error:
            click.echo(f"  (why cannot be said: {error.message})", err=True)
        click.echo(f"  It stays submitted and starts when there is room; 'raftsman stop {name}' gives up.", err=True)
        return self._ended(ExitCode.UNPLACED, job)

    def _unplaced(self, judgement: Judgement) -> bool:
        """Whether some instance waits for a node; those that failed to start wait for their next try."""
        if not judgement.pending:
            return False
        placed = newest(self._client.list_allocations(job=self._spec.name, namespace=self._spec.namespace).allocations)
        tried = [one for one in placed if one.state is AllocState.FAILED and one.job_version == self._version]
        return judgement.pending > len(tried)

    def _show_failures(self, allocations: list[Allocation], judgement: Judgement, *, quiet: bool = False) -> None:
        if not quiet:
            click.echo(f"raftsman: {self._spec.name} failed: {judgement.text}", err=True)
        failed = [one for one in newest(allocations) if one.state is AllocState.FAILED] or self._unwell(allocations)
        failed = failed or (newest(allocations) if quiet else [])
        for one in failed[:FAILURES_SHOWN]:
            where = f" on {one.node_name}" if one.node_name else ""
            said = one.reason or (f"exit code {one.exit_code}" if one.exit_code else "no reason given")
            click.echo(f"  {one.id}{where}: {said}", err=True)
            for line in self._last_lines(one) if self._shows_output else ():
                click.echo(f"    | {line}", err=True)
        if len(failed) > FAILURES_SHOWN:
            click.echo(f"  and {len(failed) - FAILURES_SHOWN} more: raftsman status {self._spec.name}", err=True)

    def _unwell(self, allocations: list[Allocation]) -> list[Allocation]:
        """Of a version that did not come up: who is not ready, or was until it was taken back."""
        mine = [one for one in allocations if one.job_version == self._version and not one.ready]
        return sorted(mine, key=lambda one: -one.create_index)

    def _last_lines(self, allocation: Allocation) -> list[str]:
        group = next((group for group in self._spec.groups if group.name == allocation.id.group), None)
        lines: list[str] = []
        for task in group.tasks if group is not None else ():
            data = self._last_output(allocation, task.name)
            if not data and allocation.restarts:  # it was taken back while it began again
                data = self._last_output(allocation, task.name, previous=True)
            prefix = f"{task.name}: " if group is not None and len(group.tasks) > 1 else ""
            lines += [f"{prefix}{line}" for line in data.decode("utf-8", "replace").splitlines()[-LOG_LINES:]]
        return lines

    def _last_output(self, allocation: Allocation, task: str, *, previous: bool = False) -> bytes:
        """Of the newest run, or the one before it; nothing where it never started, or its node is gone."""
        data = bytearray()
        with suppress(RaftsmanError):
            for chunk in self._client.at_most(5.0).logs(
                allocation.id, task=task, attempt=allocation.attempt, previous=previous, tail_lines=LOG_LINES
            ):
                data += chunk.data
        return bytes(data)


class _Tell:
    """Progress lines: rewritten in place on a terminal, one below the other elsewhere."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._status: object = None
        if session.live:
            from rich.console import Console

            self._status = Console(stderr=True, no_color=session.no_color).status("")

    def __call__(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text)  # type: ignore[attr-defined]
        else:
            self._session.note(text)

    def line(self, text: str) -> None:
        """A line that stays."""
        if self._status is not None:
            self._status.console.print(text, highlight=False, markup=False)  # type: ignore[attr-defined]
        else:
            self._session.note(text)


@contextmanager
def _progress(session: Session) -> Iterator[_Tell]:
    tell = _Tell(session)
    if tell._status is None:
        yield tell
    else:
        with tell._status:  # type: ignore[attr-defined]
            yield tell
