"""What a local cluster is planned to consist of."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.contract.errors import InvalidError, PreconditionError
from orchestrator.ops.cluster_file import ClusterRecord
from orchestrator.ops.dev_plan import Wanted, newcomer, peer_directory, plan
from orchestrator.ops.ports import Ports
from orchestrator.ops.processes import started_s


@pytest.fixture
def ports() -> Iterator[Ports]:
    made = Ports()
    yield made
    made.release()


def alive(record: ClusterRecord, *names: str) -> ClusterRecord:
    """As if those members were running (as this very process)."""
    started = started_s(os.getpid())
    members = tuple(
        dataclasses.replace(m, pid=os.getpid(), started=started) if m.name in names else m for m in record.members
    )
    return dataclasses.replace(record, members=members)


def value(record: ClusterRecord, name: str, flag: str) -> str:
    member = record.find(name)
    assert member is not None
    return member.argv[member.argv.index(flag) + 1]


def test_the_first_plan_has_three_peers_and_two_agents_that_know_each_other(tmp_path: Path, ports: Ports) -> None:
    record = plan(tmp_path, None, Wanted(name="dev", gateway=True), ports)
    assert [member.name for member in record.members] == ["p1", "p2", "p3", "n1", "n2", "gateway"]
    addresses = [peer.address for peer in record.of_kind("peer")]
    assert value(record, "p2", "--peers") == ",".join(f"p{i + 1}={a}" for i, a in enumerate(addresses))
    assert value(record, "n1", "--peers") == value(record, "gateway", "--endpoints") == ",".join(addresses)
    assert len({member.http for member in record.members} | set(addresses)) == 9
    for name in ("p1", "n2", "gateway"):
        assert (Path(value(record, name, "--tls")) / "cert.pem").exists()


def test_with_links_each_direction_between_peers_has_an_address_of_its_own(tmp_path: Path, ports: Ports) -> None:
    record = plan(tmp_path, None, Wanted(name="drill", links=True), ports)
    at = {peer.name: peer.address.rpartition(":")[2] for peer in record.of_kind("peer")}
    assert value(record, "p2", "--listen") == f"0.0.0.0:{at['p2']}"
    assert value(record, "p2", "--peers") == f"p1=127.1.2.1:{at['p1']},p2=127.0.0.1:{at['p2']},p3=127.1.2.3:{at['p3']}"
    assert value(record, "n1", "--peers") == ",".join(f"127.0.0.1:{port}" for port in at.values())


def test_predictable_ports_are_the_documented_ones_or_the_next(tmp_path: Path, ports: Ports) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 7400))
            taken.listen()
        except OSError:
            pass  # somebody listens there already, which will do as well
        record = plan(tmp_path, None, Wanted(name="dev", peers=1, agents=0, predictable_ports=True), ports)
    (peer,) = record.members
    assert 7400 < int(peer.address.rpartition(":")[2]) < 7480


def test_what_was_given_once_holds_until_something_else_is_given(tmp_path: Path, ports: Ports) -> None:
    first = plan(tmp_path, None, Wanted(name="dev", peers=1, agents=1, driver="process", gpu="count=2"), ports)
    ports.release()
    again = plan(tmp_path, first, Wanted(name="dev"), Ports())
    assert value(again, "n1", "--gpu") == "count=2"
    assert value(again, "n1", "--driver") == "process"
    assert "--fast-failover" not in (again.find("p1") or first.members[0]).argv
    changed = plan(tmp_path, again, Wanted(name="dev", gpu="count=4", fast_failover=True), Ports())
    assert value(changed, "n1", "--gpu") == "count=4"
    assert "--fast-failover" in (changed.find("p1") or first.members[0]).argv


def test_real_gpus_belong_to_one_agent_and_declared_ones_to_each(tmp_path: Path, ports: Ports) -> None:
    real = plan(tmp_path, None, Wanted(name="dev", peers=1, agents=2, driver="process"), ports)
    assert "--gpu" not in (real.find("n1") or real.members[0]).argv
    assert value(real, "n2", "--gpu") == "none"
    more = plan(tmp_path, alive(real, "p1", "n1", "n2"), Wanted(name="dev", agents=3), ports)
    assert value(more, "n3", "--gpu") == "none"
    ports.release()
    said = plan(tmp_path / "said", None, Wanted(name="dev", peers=1, agents=2, gpu="count=2"), Ports())
    assert [value(said, name, "--gpu") for name in ("n1", "n2")] == ["count=2", "count=2"]


def test_what_runs_is_left_alone_and_contradictions_are_refused(tmp_path: Path, ports: Ports) -> None:
    first = alive(plan(tmp_path, None, Wanted(name="dev", peers=1, agents=1), ports), "p1")
    same = plan(tmp_path, first, Wanted(name="dev"), ports)
    assert same.find("p1") == first.find("p1")
    with pytest.raises(PreconditionError, match=r"runs with another driver \(p1 are up\); stop it first"):
        plan(tmp_path, first, Wanted(name="dev", driver="docker"), ports)
    with pytest.raises(PreconditionError, match="holds a cluster of 1 peers, not 3"):
        plan(tmp_path, first, Wanted(name="dev", peers=3), ports)


def test_agents_can_be_added_to_a_running_cluster(tmp_path: Path, ports: Ports) -> None:
    first = alive(plan(tmp_path, None, Wanted(name="dev", peers=1, agents=1), ports), "p1", "n1")
    more = plan(tmp_path, first, Wanted(name="dev", agents=3), ports)
    assert [member.name for member in more.members] == ["p1", "n1", "n2", "n3"]
    assert more.find("n1") == first.find("n1")
    fewer = plan(tmp_path, more, Wanted(name="dev", agents=1), ports)
    assert len(fewer.of_kind("agent")) == 3, "nothing is taken away from a cluster behind its back"


def test_a_cluster_that_moved_to_free_ports_tells_everybody(tmp_path: Path, ports: Ports) -> None:
    first = plan(tmp_path, None, Wanted(name="dev", peers=1, agents=1), ports)
    ports.release()
    address = first.members[0].address
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        moved = plan(tmp_path, first, Wanted(name="dev"), Ports())
    assert moved.members[0].address != address
    assert value(moved, "n1", "--peers") == value(moved, "p1", "--listen") == moved.members[0].address


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"peers": 0}, "0 peers: expected 1 to 9"),
        ({"agents": -1}, "-1 agents"),
        ({"driver": "podman"}, "driver 'podman': expected one of auto, docker"),
    ],
)
def test_absurd_wishes_are_refused(wanted: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        Wanted(name="dev", **wanted)  # type: ignore[arg-type]


def test_a_newcomer_has_a_name_and_a_directory_that_nobody_used(tmp_path: Path, ports: Ports) -> None:
    record = plan(tmp_path, None, Wanted(name="dev"), ports)
    peer_directory(tmp_path, "p4").mkdir(parents=True)  # of one that was removed
    running = alive(record, "p1", "p2", "p3")
    fresh = newcomer(tmp_path, running, Wanted(name="dev"), ports)
    assert fresh.name == "p5"
    assert fresh.address not in {member.address for member in record.members}
    listed = fresh.argv[fresh.argv.index("--peers") + 1]
    assert [one.partition("=")[0] for one in listed.split(",")] == ["p1", "p2", "p3", "p5"]


def test_a_cluster_whose_peers_were_replaced_is_planned_with_those_it_has(tmp_path: Path, ports: Ports) -> None:
    record = plan(tmp_path, None, Wanted(name="dev"), ports)
    record = record.replacing(newcomer(tmp_path, record, Wanted(name="dev"), ports)).without("p1")
    again = plan(tmp_path, record, Wanted(name="dev"), ports)
    assert [peer.name for peer in again.of_kind("peer")] == ["p2", "p3", "p4"]
