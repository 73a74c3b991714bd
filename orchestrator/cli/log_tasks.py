"""Which tasks an allocation has: those of the version of the job that it runs, not of the one of now."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from orchestrator.contract.errors import RaftsmanError

if TYPE_CHECKING:
    from orchestrator.client.aio import Client
    from orchestrator.contract.answers import JobStatus
    from orchestrator.contract.model import Allocation, JobSpec


class Tasks:
    """The names of tasks by version and group; asks for older versions once, when one is met that is not known."""

    def __init__(self, client: Client, job: JobStatus, *, stale: bool) -> None:
        self._client = client
        self._stale = stale
        self._newest = job.version
        self._known = {job.version: _names(job.spec)}

    async def of(self, allocation: Allocation) -> list[str]:
        """In the order of the job file. Of a version that nobody remembers those of the newest one; ``[""]``, the
        agent's first, where that has no such group. Raises nothing."""
        version = allocation.job_version
        if version not in self._known:
            await self._ask(allocation.id.job)
        groups = self._known.setdefault(version, self._known[self._newest])
        return groups.get(allocation.id.group) or [""]

    async def _ask(self, job: str) -> None:
        with contextlib.suppress(RaftsmanError):
            for one in (await self._client.list_job_versions(job, stale=self._stale)).versions:
                self._known[one.version] = _names(one.spec)


def _names(spec: JobSpec) -> dict[str, list[str]]:
    return {group.name: [task.name for task in group.tasks] for group in spec.groups}
