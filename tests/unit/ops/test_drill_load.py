"""The writers: what they count, what they repeat, and what they write down."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract.answers import VariableResult
from orchestrator.contract.errors import InvalidError, NoLeaderError, RaftsmanError, TimeoutError_, UnknownOutcomeError
from orchestrator.contract.model import Variable
from orchestrator.ops import drill_hot, drill_load
from orchestrator.ops.drill_facts import Facts
from orchestrator.ops.drill_load import Writers, longest_gap
from orchestrator.ops.history import History


class FakeClient:
    """One cluster in memory. ``remember`` False: it forgets request ids, as a broken one would."""

    def __init__(self, *, remember: bool = True) -> None:
        self.index = 0
        self.values: dict[str, tuple[str, int]] = {}
        self.answers: dict[str, VariableResult] = {}
        self.remember = remember
        self.fail: Callable[[int], RaftsmanError | None] = lambda call: None
        self.lose_answer = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls = 0
        self.hot: dict[str, str] = {}
        self.deletes = 0
        self.fail_delete: Callable[[int], RaftsmanError | None] = lambda call: None

    def at_most(self, timeout_s: float) -> FakeClient:
        return self

    async def create_variable(self, name: str, value: str, request_id: str | None = None) -> VariableResult:
        if "hot" in name:
            hit = name not in self.hot
            self.hot.setdefault(name, value)
            return self._hot(name, self.hot[name], hit)
        self.calls += 1
        await self.gate.wait()
        error = self.fail(self.calls)
        if error is not None and not self.lose_answer:
            raise error
        answer = self.answers.get(request_id or "") if self.remember else None
        if answer is None:
            self.index += 1
            hit = name not in self.values
            if hit:
                self.values[name] = (value, self.index)
            kept, created = self.values[name]
            variable = Variable(
                namespace="default", name=name, value=kept, version=1, create_index=created, modify_index=created
            )
            answer = VariableResult(variable=variable, index=self.index, hit=hit)
            self.answers[request_id or ""] = answer
        if error is not None:
            raise error
        return answer

    async def get_variable(self, name: str) -> VariableResult:
        return self._hot(name, self.hot.get(name), name in self.hot)

    async def put_variable(self, name: str, value: str, request_id: str) -> VariableResult:
        self.hot[name] = value
        return self._hot(name, value, True)

    async def compare_and_set_variable(self, name: str, expect: str, value: str, request_id: str) -> VariableResult:
        hit = self.hot.get(name) == expect
        if hit:
            self.hot[name] = value
        return self._hot(name, self.hot.get(name), hit)

    async def delete_variable(self, name: str, expect: str | None, request_id: str) -> VariableResult:
        self.deletes += 1
        error = self.fail_delete(self.deletes)
        if error is not None:
            raise error
        hit = expect is None or self.hot.get(name) == expect
        if hit:
            self.hot.pop(name, None)
        return self._hot(name, self.hot.get(name), hit)

    def _hot(self, name: str, value: str | None, hit: bool) -> VariableResult:
        self.index += 1
        if value is None:
            return VariableResult(variable=None, index=self.index, hit=hit)
        variable = Variable(namespace="default", name=name, value=value, version=1, create_index=1, modify_index=1)
        return VariableResult(variable=variable, index=self.index, hit=hit)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill_load, "PAUSE_S", 0.0)
    monkeypatch.setattr(drill_load, "HOT_PAUSE_S", 0.0)
    monkeypatch.setattr(drill_load, "RETRY_S", 0.0)
    monkeypatch.setattr(drill_hot, "RETRY_S", 0.0)


async def run(client: FakeClient, facts: Facts, acked: int, history: Path | None = None) -> Writers:
    with History(history) as kept:
        writers = Writers([client], [client], facts, kept, "d/")  # type: ignore[list-item]
        writers.start()
        await writers.reached(acked, 10)
        await writers.stop()
    return writers


async def test_every_acknowledged_create_is_counted_with_its_index() -> None:
    client, facts = FakeClient(), Facts()
    await run(client, facts, 25)
    names = {ack.name for ack in facts.acks}
    assert len(names) >= 25
    assert all(client.values[ack.name] == (ack.value, ack.index) for ack in facts.acks)
    assert len(facts.acks) > len(names), "some requests were repeated"
    assert facts.refused_repeats == []


async def test_a_lost_answer_is_asked_for_again_with_the_same_request_id() -> None:
    client, facts = FakeClient(), Facts()
    client.lose_answer = True
    client.fail = lambda call: UnknownOutcomeError("lost") if call == 3 else None
    await run(client, facts, 10)
    assert facts.refused_repeats == []
    assert len(client.values) == len({ack.name for ack in facts.acks})


async def test_a_cluster_that_forgets_request_ids_is_found_out() -> None:
    client, facts = FakeClient(remember=False), Facts()
    client.lose_answer = True
    client.fail = lambda call: TimeoutError_("lost") if call == 3 else None
    await run(client, facts, 15)
    assert len(facts.refused_repeats) == 2, "the retried one, and the one that was repeated on purpose"


async def test_an_error_that_no_retry_changes_ends_the_drill() -> None:
    client, facts = FakeClient(), Facts()
    client.fail = lambda call: InvalidError("name: too long") if call == 5 else None
    with pytest.raises(InvalidError, match="too long"):
        await run(client, facts, 10)


async def test_a_write_that_was_under_way_does_not_end_the_gap() -> None:
    client, facts = FakeClient(), Facts()
    with History(None) as history:
        writers = Writers([client], [client], facts, history, "d/")  # type: ignore[list-item]
        writers.start()
        await writers.reached(3, 10)
        client.gate.clear()
        under_way = client.calls
        async with asyncio.timeout(10):
            while client.calls == under_way:
                await asyncio.sleep(0)
        struck_ns = time.monotonic_ns()
        gap = asyncio.create_task(writers.acked_after(struck_ns, 10))
        before = writers.acked
        client.gate.set()
        ended_ns = await gap
        await writers.stop()
    assert writers.acked >= before + 2, "the one under way, then one that began after the strike"
    assert ended_ns > struck_ns


async def test_no_acknowledgement_in_time_is_said_with_the_count() -> None:
    client, facts = FakeClient(), Facts()
    client.fail = lambda call: NoLeaderError("no majority")
    with History(None) as history:
        writers = Writers([client], [client], facts, history, "d/")  # type: ignore[list-item]
        writers.start()
        with pytest.raises(TimeoutError_, match="only 0 of 5 writes"):
            await writers.reached(5, 0.1)
        client.fail = lambda call: None
        await writers.stop()


async def test_a_create_with_retries_is_one_operation_in_the_history(tmp_path: Path) -> None:
    client, facts = FakeClient(), Facts()
    client.fail = lambda call: NoLeaderError("no majority") if call in (2, 3, 4) else None
    await run(client, facts, 5, tmp_path / "h.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    creates = [line for line in lines if "hot" not in line["key"]]
    assert [line["key"] for line in creates] == sorted({ack.name for ack in facts.acks})
    assert all(line["op"] == "cas" and line["expect"] is None and line["hit"] and line["ok"] for line in creates)


async def hot_lines(client: FakeClient, path: Path) -> list[dict[str, Any]]:
    await run(client, Facts(), 200, path)
    lines = (await asyncio.to_thread(path.read_text)).splitlines()
    return [line for line in map(json.loads, lines) if "hot" in line["key"]]


async def test_hot_keys_are_written_down_as_they_were_answered(tmp_path: Path) -> None:
    hot = await hot_lines(FakeClient(), tmp_path / "h.jsonl")
    assert {line["op"] for line in hot} == {"put", "get", "cas", "delete"}
    assert all(line["ok"] for line in hot)
    assert {line.get("expect", "none") is None for line in hot if line["op"] == "cas"} == {True, False}
    assert {"expect" in line for line in hot if line["op"] == "delete"} == {True, False}
    written = [line["value"] for line in hot if line["op"] in ("put", "cas")]
    assert len(set(written)) == len(written), "no value is written twice"
    held: dict[str, str | None] = {}
    for line in sorted(hot, key=lambda line: int(line["index"])):
        key = line["key"]
        if line["op"] == "get":
            assert line["value"] == held.get(key)
        elif "expect" in line:
            assert line["hit"] == (held.get(key) == line["expect"])
        if line["op"] == "put" or (line["op"] == "cas" and line["hit"]):
            held[key] = line["value"]
        elif line["op"] == "delete" and line["hit"]:
            held[key] = None


async def test_an_outcome_that_is_never_learnt_is_unknown_and_its_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill_hot, "RESOLVE_S", 0.0)
    client = FakeClient()
    client.fail_delete = lambda call: UnknownOutcomeError("nobody knows") if call == 1 else None
    hot = await hot_lines(client, tmp_path / "h.jsonl")
    (unknown,) = [line for line in hot if line["ok"] is not True]
    assert (unknown["op"], unknown["ok"]) == ("delete", None)
    later = [line for line in hot if line["call_ns"] > unknown["call_ns"]]
    assert unknown["process"] not in {line["process"] for line in later}, "who does not know does not go on"


async def test_an_outcome_that_is_uncertain_at_first_is_asked_for_again_with_its_request_id(tmp_path: Path) -> None:
    client = FakeClient()
    client.fail_delete = lambda call: UnknownOutcomeError("nobody knows") if call == 1 else None
    hot = await hot_lines(client, tmp_path / "h.jsonl")
    assert all(line["ok"] is True for line in hot)
    assert client.deletes == 1 + len([line for line in hot if line["op"] == "delete"])


async def test_what_certainly_was_not_done_is_noted_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill_hot, "RESOLVE_S", 0.0)
    client = FakeClient()
    client.fail_delete = lambda call: NoLeaderError("not even proposed") if call == 1 else None
    hot = await hot_lines(client, tmp_path / "h.jsonl")
    assert [line["ok"] for line in hot if line["ok"] is not True] == [False]


async def test_reading_back_asks_every_peer_for_every_hot_key() -> None:
    peers = [FakeClient(), FakeClient()]
    peers[1].hot["d/hot-1"] = "kept"
    history = History()
    await Writers([], peers, Facts(), history, "d/").read_back()  # type: ignore[arg-type]
    read = [(one.process, one.key, one.value) for one in history.operations]
    assert read == [
        (1, "d/hot-0", None), (1, "d/hot-1", None), (1, "d/hot-2", None),
        (2, "d/hot-0", None), (2, "d/hot-1", "kept"), (2, "d/hot-2", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("moments", "gap"),
    [
        ([], 100),
        ([110, 120, 190], 70),
        ([90, 150, 250], 50),
        ([130], 70),
        ([100, 200], 100),
    ],
    ids=["none at all", "between two", "only what lies inside counts", "to the end", "the edges themselves"],
)
def test_the_longest_gap_lies_between_neighbours_within_the_window(moments: list[int], gap: int) -> None:
    assert longest_gap(moments, 100, 200) == gap
