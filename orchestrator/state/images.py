"""Which digest of an image all instances of a group's version run, settled by whoever asks first.

Owns: ``PinImage``, and for how long what was settled is kept. Leaves to others: what a name means at its registry now,
which only agents can ask. The rules: the first digest counts, for ever; a version of a group begins where its content
last changed, so an instance that scaling adds runs what its siblings run; a new version settles anew.
"""

from __future__ import annotations

import re
from dataclasses import replace

from orchestrator.contract.model import StrMap
from orchestrator.state.commands import Outcome, PinAnswer, PinImage
from orchestrator.state.features import RESIZED_TWINS
from orchestrator.state.model import ImagePin, Job
from orchestrator.state.state import State

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def pin(state: State, command: PinImage) -> Outcome:
    job = state.jobs.get(command.job_uid)
    if job is None:
        return state.reject("NOT_FOUND", f"there is no job {command.job_uid[:64]!r} any more")
    if not DIGEST.fullmatch(command.digest):
        return state.reject(
            "INVALID", f"the digest must be 'sha256:' and 64 hexadecimal digits, not {command.digest[:80]!r}"
        )
    spec = next((spec for version, spec in job.specs if version == command.version), None)
    group = next((group for group in spec.groups if group.name == command.group), None) if spec is not None else None
    if group is None or all(task.image != command.image for task in group.tasks):
        return state.reject(
            "NOT_FOUND",
            f"version {command.version} of job {job.spec.name!r} runs no image {command.image[:128]!r} in a group "
            f"{command.group[:64]!r} (any more)",
        )
    known = pinned(job, command.group, command.version, command.image)
    if known:
        return state.answer(PinAnswer(digest=known))
    one = ImagePin(
        group=command.group,
        version=since(job, command.group, command.version),
        image=command.image,
        digest=command.digest,
    )
    state.amend_job(replace(job, pins=tuple(sorted((*job.pins, one), key=_order))))
    state.events.emit(
        "image.settled",
        namespace=job.spec.namespace,
        job=job.spec.name,
        message=f"group {command.group}: {command.image} is {command.digest}",
    )
    return state.answer(PinAnswer(digest=command.digest))


def pinned(job: Job, group: str, version: int, image: str) -> str:
    """The digest for instances of this version of the job, or ""."""
    return dict(digests(job, group, version)).get(image, "")


def digests(job: Job, group: str, version: int) -> StrMap:
    """Image to digest, as far as settled."""
    if not job.pins:
        return ()
    begun = since(job, group, version)
    return tuple((one.image, one.digest) for one in job.pins if one.group == group and one.version == begun)


def kept(job: Job) -> tuple[ImagePin, ...]:
    """What may still be asked for: pins of versions that rows may name."""
    if not job.pins:
        return ()
    oldest = min(version for version, _ in job.specs)
    needed = {(one.group, since(job, one.group, oldest)) for one in job.pins}
    return tuple(one for one in job.pins if one.version >= oldest or (one.group, one.version) in needed)


def carried(pins: tuple[ImagePin, ...], group: str, before: int, after: int, *, level: int) -> tuple[ImagePin, ...]:
    """With those of a group's version ``before`` also for ``after``, whose instances are partly the same. What is
    settled for ``after`` already stays, from a feature level on."""
    settled = {one.image for one in pins if one.group == group and one.version == after}
    if level < RESIZED_TWINS:
        settled = set()
    mine = [one for one in pins if one.group == group and one.version == before and one.image not in settled]
    return tuple(sorted((*pins, *(replace(one, version=after) for one in mine)), key=_order))


def since(job: Job, group: str, version: int) -> int:
    """The version of the job at which the content of the group began that instances of ``version`` run."""
    for spec, at in zip(job.spec.groups, job.group_versions, strict=True):
        if spec.name == group and version >= at:
            return at
    known = [one.version for one in job.pins if one.group == group and one.version <= version]
    return max(known, default=version)


def _order(one: ImagePin) -> tuple[str, int, str]:
    return one.group, one.version, one.image
