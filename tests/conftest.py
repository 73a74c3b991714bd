"""What every test runs under. Machines are shared and noisy: no generated test either may fail for being slow.

A logged exception is written as Python writes it: painted by rich, with the code and every local of each frame, one
takes a third of a second.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from orchestrator.contract.log_lines import leave_libraries_alone
from tests.effort import FAST

settings.register_profile("raftsman", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `scripts/test fast` names this one.
settings.register_profile("fast", settings.get_profile("raftsman"), max_examples=FAST)
# `.ci/run` names this one: what passed here passes there. New examples are looked for wherever people run the tests.
settings.register_profile("ci", settings.get_profile("raftsman"), derandomize=True)
settings.load_profile("raftsman")

structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(autouse=True)
def _libraries_left_alone() -> Iterator[None]:
    """A command that ran within a test no longer writes what libraries say, into what the next one reads."""
    yield
    leave_libraries_alone()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The compose file's tests come last: ``scripts/lib/test_tools.sh`` makes their images while others run."""
    items.sort(key=lambda item: item.get_closest_marker("compose") is not None)
