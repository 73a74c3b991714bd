"""What every test runs under. Machines are shared and noisy: no generated test either may fail for being slow."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("raftsman", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("raftsman")

ENGINE = "engine"
"""The group of tests that need the machine's engine: beside each other they would only wait for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For ``--dist loadgroup``: tests of a module that starts processes share its fixtures, so they share a worker."""
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if "xdist_group" in marks:
            continue
        if marks & {"docker", "compose"}:
            item.add_marker(pytest.mark.xdist_group(ENGINE))
        elif "cluster" in marks:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
