"""The writers: what they count, what they repeat, and what they write down."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.contract.answers import VariableResult
from orchestrator.contract.errors import InvalidError, NoLeaderError, RaftsmanError, TimeoutError_, UnknownOutcomeError
from orchestrator.contract.model import Variable
from orchestrator.ops import drill_load
from orchestrator.ops.drill_facts import Facts
from orchestrator.ops.drill_load import Writers
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
        self.hot_calls = 0

    async def create_variable(self, name: str, value: str, request_id: str | None = None) -> VariableResult:
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
        return self._hot(name, self.hot.get(name), True)

    async def put_variable(self, name: str, value: str) -> VariableResult:
        self.hot[name] = value
        return self._hot(name, value, True)

    async def compare_and_set_variable(self, name: str, expect: str | None, value: str) -> VariableResult:
        hit = self.hot.get(name) == expect
        if hit:
            self.hot[name] = value
        return self._hot(name, self.hot.get(name), hit)

    async def delete_variable(self, name: str) -> VariableResult:
        self.hot_calls += 1
        if self.hot_calls == 1:
            raise UnknownOutcomeError("nobody knows")
        self.hot.pop(name, None)
        return self._hot(name, None, True)

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


async def run(client: FakeClient, facts: Facts, acked: int, history: Path | None = None) -> Writers:
    with History(history) as kept:
        writers = Writers([client], facts, kept, "d/")  # type: ignore[list-item]
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
        writers = Writers([client], facts, history, "d/")  # type: ignore[list-item]
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
        writers = Writers([client], facts, history, "d/")  # type: ignore[list-item]
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


async def test_hot_keys_are_written_down_as_they_were_answered_and_unknown_outcomes_as_unknown(tmp_path: Path) -> None:
    client, facts = FakeClient(), Facts()
    await run(client, facts, 300, tmp_path / "h.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    hot = [line for line in lines if "hot" in line["key"]]
    assert {line["op"] for line in hot} == {"get", "put", "cas", "delete"}
    (unknown,) = [line for line in hot if line["ok"] is None]
    later = [line for line in hot if line["call_ns"] > unknown["call_ns"]]
    assert unknown["process"] not in {line["process"] for line in later}, "who does not know does not go on"
    held: dict[str, str | None] = {}
    for line in sorted((line for line in hot if line["ok"]), key=lambda line: int(line["index"])):
        key = line["key"]
        if line["op"] == "get":
            assert line["value"] == held.get(key)
        elif line["op"] == "cas":
            assert line["hit"] == (held.get(key) == line["expect"])
        if line["op"] == "put" or (line["op"] == "cas" and line["hit"]):
            held[key] = line["value"]
        elif line["op"] == "delete":
            held[key] = None
