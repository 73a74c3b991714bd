"""The pytest plugin: the fixture ``local_cluster`` gives a test a real cluster of its own, removed afterwards.

    @pytest.mark.local_cluster(peers=3, agents=1)   # optional: whatever LocalCluster takes
    async def test_my_job_survives(local_cluster):
        await local_cluster.kill_leader()

Owns: the fixture and its marker. The rule: loading this module imports pytest and nothing of ours, since every pytest
run of anybody who has Raftsman installed loads it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from orchestrator.ops.dev import LocalCluster


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "local_cluster(**options): options of the fixture's LocalCluster")


if importlib.util.find_spec("pytest_asyncio") is not None:
    import pytest_asyncio

    @pytest_asyncio.fixture(name="local_cluster")
    async def _local_cluster(request: pytest.FixtureRequest) -> AsyncIterator[LocalCluster]:
        from orchestrator.ops.dev import LocalCluster

        marker = request.node.get_closest_marker("local_cluster")
        async with LocalCluster(**(marker.kwargs if marker else {})) as cluster:
            yield cluster

else:  # other people's tests may do without it

    @pytest.fixture(name="local_cluster")
    def _needs_pytest_asyncio() -> None:
        """Says what is missing."""
        pytest.fail("the fixture local_cluster needs pytest-asyncio: pip install pytest-asyncio")
