"""Which digest of an image an allocation runs: settled once per version of the job, for all of its instances.

Owns: asking the driver what the name means now, and the control plane what was settled. Leaves to others: fetching
(drivers), the settling itself (``PinImage``: whoever asks first decides, and all hear the same). The rules: nothing
starts from a name whose digest could be settled and was not; what was settled is kept with the record, so a restart
needs nobody; without a control plane an image that nobody settled waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from agent.driver import Driver, PinsImages, RunSpec
from orchestrator.contract.model import AssignmentKey

Settle = Callable[[AssignmentKey, int, str, str], Awaitable[str]]
"""(allocation, version of the job, image, digest as this node found it) -> the digest for all; may wait for long."""


async def prepare(driver: Driver, spec: RunSpec, version: int, settle: Settle) -> RunSpec:
    """Have what ``spec`` needs on this node; the spec with the settled digest. Raises what ``Driver.prepare`` does."""
    if isinstance(driver, PinsImages) and spec.task.image and not spec.digest:
        digest = await driver.resolve(spec)
        if digest is None:
            await driver.prepare(spec)  # what was fetched tells
            digest = await driver.resolve(spec)
        if digest:
            spec = replace(spec, digest=await settle(spec.run.key, version, spec.task.image, digest))
    await driver.prepare(spec)
    return spec
