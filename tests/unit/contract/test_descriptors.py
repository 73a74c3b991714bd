"""A process that serves may have as many connections as whoever started it allows at most."""

from __future__ import annotations

import resource

import pytest

from orchestrator.contract.descriptors import raise_limit


def test_the_soft_limit_is_raised_to_the_hard_one(request: pytest.FixtureRequest) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, before))
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] - 1, before[1]))
    assert raise_limit() == before[1]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    assert raise_limit() == before[1]
