"""Taints, tolerations and images, in words and out of words."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.contract import taints
from orchestrator.contract.images import Images, written
from orchestrator.contract.model import NodeTaint, Taint, TaintEffect, TaintKey, Toleration


@pytest.mark.parametrize("text", ["gpu=only:NoSchedule", "old:PreferNoSchedule", "a.b/c=1:NoExecute"])
def test_a_taint_is_written_as_it_is_read(text: str) -> None:
    assert taints.describe(taints.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "gpu", "gpu=only", "gpu:Never", ":NoSchedule", "a b:NoSchedule", "a=b:c:NoSchedule"]
)
def test_what_is_no_taint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|taint's"):
        taints.parse(text)


def test_keys_to_take_away() -> None:
    assert taints.parse_key("gpu") == TaintKey(key="gpu")
    assert taints.parse_key("gpu=only:NoExecute") == TaintKey(key="gpu", effect=TaintEffect.NO_EXECUTE)
    with pytest.raises(ValueError, match="expected"):
        taints.parse_key("gpu:Never")


def test_a_toleration_matches_where_each_part_agrees_or_is_unsaid() -> None:
    taint = Taint(key="gpu", value="only", effect=TaintEffect.NO_SCHEDULE)
    for key, value, effect in itertools.product(
        ("", "gpu", "x"), (None, "only", ""), (None, TaintEffect.NO_SCHEDULE, TaintEffect.NO_EXECUTE)
    ):
        expected = key != "x" and value in (None, "only") and effect in (None, TaintEffect.NO_SCHEDULE)
        assert taints.tolerates(Toleration(key=key, value=value, effect=effect), taint) is expected


def test_the_first_of_several_taints_decides_when_to_leave() -> None:
    listed = [
        NodeTaint(taint=Taint(key=key, effect=TaintEffect.NO_EXECUTE), since_ms=since)
        for key, since in (("a", 1_000), ("b", 2_000))
    ]
    stay = (Toleration(key="a", delay_ms=9_000), Toleration(key="b", delay_ms=3_000))
    assert taints.leaving(listed, stay) == (5_000, listed[1].taint)
    assert taints.leaving(listed, (Toleration(),)) is None
    assert taints.leaving(listed, ()) == (1_000, listed[0].taint)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("nginx:1.27", True),
        ("docker.io/library/nginx:1.27", True),
        ("nginx", False),
        ("redis", True),
        ("redis:latest", True),
        ("nginx@sha256:0123456789abcdef", True),
        ("nginx:other@sha256:0123456789abcdef", True),
        ("nginx:1.27@sha256:ffff", False),
        ("registry:5000/team/app", True),
        ("registry:5000/team/app:2", False),
        ("nginx:1.27x", False),
    ],
)
def test_an_image_is_found_by_tag_or_digest(image: str, expected: bool) -> None:
    listed = [
        written("nginx:1.27", "sha256:0123456789abcdef"),
        written("redis"),
        written("registry:5000/team/app:latest", ""),
    ]
    assert listed == ["nginx:1.27@0123456789ab", "redis:latest", "registry:5000/team/app:latest"]
    assert Images(listed).has(image) is expected
