"""A real supervisor and the real state through a restore: the backup is older than what runs."""

from __future__ import annotations

from dataclasses import replace

from orchestrator import plan
from orchestrator.contract.model import AllocState, AssignmentKey, GroupSpec, JobSpec, TaskSpec, str_map
from orchestrator.replication.machine import ClusterMachine
from orchestrator.state import views
from orchestrator.state.commands import AdmitPeers, RecordStatuses
from orchestrator.state.renewal import ATTEMPT_STEP, renew
from tests.unit.agent.conftest import NODE, Bench
from tests.unit.agent.test_supervisor import name_of
from tests.unit.state.kit import Kit, node


class Cluster(Kit):
    """Decides and applies as a leader would, and tells the bench."""

    async def tell(self, bench: Bench) -> None:
        """A full set, as after every change of the agent's session."""
        update = views.assignments_for(self.state, NODE)
        taken = await bench.supervisor.apply(
            index=update.index, full=True, assignments=update.assignments, superseded=update.superseded
        )
        assert taken, "not older than what the agent knows"

    def decide(self, after_ms: int = 1) -> None:
        self.now_ms += after_ms
        for one in plan.decide(views.cluster_view(self.state), self.now_ms).plans:
            self.ok(one)

    def hear(self, bench: Bench) -> None:
        """Everything that the agent has reported so far."""
        reported, bench.reported[:] = tuple(bench.reported), []
        self.ok(RecordStatuses(node_id=NODE, observations=reported))

    def attempts_of(self) -> dict[int, tuple[int, AllocState]]:
        """Ordinal -> newest attempt and its state."""
        rows = self.state.ordinals.job_rows(0)
        table = self.state.table
        return {
            int(table.ordinal[row]): (int(table.attempt[row]), AllocState(int(table.state[row])))
            for row in rows.tolist()
        }


def job(count: int) -> JobSpec:
    task = TaskSpec(name="main", driver="fake", command=("run",))
    return JobSpec(name="web", groups=(GroupSpec(name="api", count=count, tasks=(task,)),))


async def test_what_the_backup_knows_is_taken_up_and_no_attempt_comes_up_again(bench: Bench) -> None:
    cluster = Cluster()
    cluster.do(AdmitPeers(cluster_id="c-1", incarnations=str_map({"p1": "d1"})))
    cluster.register(replace(node(NODE, cpu=4000), drivers=("fake",)))
    cluster.submit(job(2))
    cluster.decide()
    await cluster.tell(bench)
    keys: list[AssignmentKey] = [cluster.key("web/api/0"), cluster.key("web/api/1")]
    for key in keys:
        await bench.wait_state(key, AllocState.RUNNING)
    cluster.hear(bench)
    backup = ClusterMachine()
    backup.state = cluster.state
    data = b"".join(backup.capture()())

    # After the backup the second instance is stopped, comes up again as its next attempt, and a third one is new.
    cluster.submit(job(1))
    cluster.decide()
    await cluster.tell(bench)
    await bench.wait_state(keys[1], AllocState.STOPPED)
    cluster.hear(bench)
    cluster.submit(job(3))
    cluster.decide()
    await cluster.tell(bench)
    later = [cluster.key("web/api/1"), cluster.key("web/api/2")]
    assert [key.attempt for key in later] == [2, 1]
    for key in later:
        await bench.wait_state(key, AllocState.RUNNING)
    starts = list(bench.driver.starts)

    backup.restore(data)
    cluster.state = backup.state
    renew(cluster.state, peer_id="p1", incarnation="d2", address="host:7400", cause="in a test")
    bench.reported.clear()
    await cluster.tell(bench)
    await bench.wait_state(keys[1], AllocState.STOPPED)  # said again: the control plane missed how it ended
    await bench.until_running({name_of(keys[0])})
    assert bench.driver.starts == starts, "nothing was started again"
    cluster.hear(bench)
    cluster.decide()
    assert cluster.attempts_of() == {0: (1, AllocState.RUNNING), 1: (ATTEMPT_STEP + 1, AllocState.PENDING)}
    await cluster.tell(bench)
    again = cluster.key("web/api/1")
    await bench.wait_state(again, AllocState.RUNNING)
    await bench.until_running({name_of(keys[0]), name_of(again)})
