"""What every test runs under. Machines are shared and noisy: no generated test either may fail for being slow."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.effort import FAST

settings.register_profile("raftsman", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `scripts/test fast` names this one.
settings.register_profile("fast", settings.get_profile("raftsman"), max_examples=FAST)
settings.load_profile("raftsman")
