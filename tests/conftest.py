"""What every test runs under. Machines are shared and noisy: no generated test either may fail for being slow."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("raftsman", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("raftsman")
