"""The data directory: locks, identity, records that come back as they were."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.records import Cause, Hold, Record
from agent.store import Store
from orchestrator.contract.errors import StartupError
from orchestrator.contract.model import AllocState, PortBinding
from tests.integration.agent_fakes import assignment_of, key_of, task_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


def test_the_node_id_is_minted_once(tmp_path: Path) -> None:
    first = Store(tmp_path)
    id_ = first.node_id
    first.close()
    assert Store(tmp_path).node_id == id_


def test_a_directory_in_use_is_refused_with_the_pid_of_who_uses_it(store: Store) -> None:
    with pytest.raises(StartupError, match=rf"in use by the agent with pid {os.getpid()}; .* --data"):
        Store(store.directory)


def test_the_cluster_is_remembered_and_another_one_refused(store: Store) -> None:
    store.join("cluster-a")
    store.join("cluster-a")
    with pytest.raises(StartupError, match="belongs to cluster cluster-a, but the peers are of cluster cluster-b"):
        store.join("cluster-b")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    state=st.sampled_from(list(AllocState)),
    restarts=st.integers(0, 9),
    reason=st.text(),
    hold=st.sampled_from(list(Hold)),
    env=st.dictionaries(st.text(min_size=1), st.text(), max_size=3),
)
def test_a_record_comes_back_as_it_was(
    store: Store, state: AllocState, restarts: int, reason: str, hold: Hold, env: dict[str, str]
) -> None:
    ports = (PortBinding(label="http", host_port=20_001, to=80),)
    record = Record(
        assignment=assignment_of(key_of(), task_of("run", env=env), ports=ports),
        state=state,
        restarts=restarts,
        used=restarts,
        reason=reason,
        hold=hold,
        launched=("main",),
        due_ms=5,
        ended_ms=6,
    )
    store.save(replace(record, cause=Cause(reason="not kept")))
    assert store.load() == ([record], [])


def test_a_forgotten_record_is_gone(store: Store) -> None:
    record = Record(assignment=assignment_of(key_of(), task_of("run")))
    store.save(record)
    store.forget(record.key)
    store.forget(record.key)
    assert store.load() == ([], [])


def test_a_damaged_record_is_set_aside_and_the_others_are_kept(store: Store) -> None:
    good = Record(assignment=assignment_of(key_of("good"), task_of("run")))
    store.save(good)
    (store.directory / "allocations" / "bad.json").write_bytes(b'{"assignment": {')
    records, damaged = store.load()
    assert records == [good]
    assert damaged[0].startswith("bad.json")
    assert store.load() == ([good], [])


def test_records_are_readable_by_their_owner_only(store: Store) -> None:
    store.save(Record(assignment=assignment_of(key_of(), task_of("run", env={"PASSWORD": "secret"}))))
    (path,) = (store.directory / "allocations").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_contact_counts_only_on_the_boot_that_it_was_made_on(store: Store) -> None:
    assert store.load_contact("boot-1") is None
    store.save_contact("boot-1", 1234)
    assert store.load_contact("boot-1") == 1234
    assert store.load_contact("boot-2") is None


def test_what_changes_of_an_assignment_that_was_written_before_is_written(store: Store) -> None:
    first = Record(assignment=assignment_of(key_of(), task_of("run", env={"A": "1"})))
    second = replace(
        first, state=AllocState.STARTING, assignment=assignment_of(key_of(), task_of("run", env={"A": "2"}))
    )
    for record in (first, replace(first, state=AllocState.STARTING), second, replace(second, reason="later")):
        store.save(record)
        assert store.load() == ([record], [])
    for state in (AllocState.RUNNING, AllocState.COMPLETE):
        store.save(second)
        store.save(replace(second, state=state))
        assert store.load() == ([replace(second, state=state)], [])
        assert not store._written  # of what runs or has ended nothing is kept in memory
    store.save(second)
    store.forget(second.key)
    assert not store._written


def test_a_disk_that_takes_nothing_ends_nobody_and_has_everything_once_there_is_room(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent ended, again after every start, and with it all that ran there was lost to the cluster."""
    kept, gone = (Record(assignment=assignment_of(key_of(name), task_of("true"))) for name in ("kept", "gone"))
    store.save(kept)

    def full(descriptor: int, mode: str) -> IO[bytes]:
        os.close(descriptor)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with capture_logs() as told:
        with monkeypatch.context() as disk:
            disk.setattr("agent.store.open", full, raising=False)
            store.save(replace(kept, restarts=1))
            store.save(replace(kept, restarts=2))
            store.save(gone)
            store.join("cluster-a")
            store.save_contact("boot", 5)
            store.forget(gone.key)
            assert store.cluster_id == "cluster-a"
            assert [one.restarts for one in store.load()[0]] == [0], "what was there before is whole"
        store.save_contact("boot", 7)
    assert [line["event"] for line in told] == ["cannot_store", "stored_again"]
    assert [(one.key, one.restarts) for one in store.load()[0]] == [(kept.key, 2)]
    directory = store.directory
    store.close()
    again = Store(directory)
    assert (again.cluster_id, again.load_contact("boot")) == ("cluster-a", 7)
    assert not list(directory.rglob("*.new"))


def test_a_node_that_cannot_write_who_it_is_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, mode: str) -> IO[bytes]:
        os.close(descriptor)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("agent.store.open", full, raising=False)
    with pytest.raises(StartupError, match=r"node.json: No space left on device; make room"):
        Store(tmp_path)
