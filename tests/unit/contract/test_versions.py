"""Versions: order and comparisons."""

from __future__ import annotations

import pytest

from orchestrator.contract import versions
from orchestrator.contract.versions import holds, key_of

# semver.org, section 11, and what drivers and kernels write.
ASCENDING = [
    "0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
    "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2", "1.10", "2", "5.15.0", "6.8.0", "535.104.5", "535.104.05.01",
]  # fmt: skip


def test_versions_are_in_this_order() -> None:
    keys = [key_of(text) for text in ASCENDING]
    assert None not in keys
    assert sorted(keys, key=lambda key: key or ((), ())) == keys
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("comparison", "version", "expected"),
    [
        (">= 1.2", "1.2.0", True),
        (">= 1.2", "1.10", True),
        ("< 2", "2.0.0-rc.1", True),
        ("< 2", "2", False),
        ("= 1.2", "v1.2.0+build.5", True),
        ("!= 1.2", "1.2", False),
        ("> 1", "1.0.1", True),
        ("<=1.2", "1.2", True),
        (">= 1", "one", False),
        ("about 1", "1", False),
        (">= x", "1", False),
    ],
)
def test_comparisons(comparison: str, version: str, expected: bool) -> None:
    assert holds(comparison, version) is expected


def test_a_malformed_comparison_is_told() -> None:
    assert versions.problem(">= 1.2") == ""
    assert "expected a comparison with a version" in versions.problem("newer than 2")
