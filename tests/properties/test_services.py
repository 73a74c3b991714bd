"""Whatever happens, what was followed step by step is what a first look finds."""

from __future__ import annotations

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import AllocationId, Service, ServiceInstance
from orchestrator.contract.services import offered
from orchestrator.state.services import Key, ServiceIndex
from orchestrator.state.snapshot import capture, restore
from orchestrator.state.state import State
from tests import listed
from tests.effort import examples
from tests.properties.test_plan import World, disturb, some_node


def plainly(state: State) -> dict[Key, Service]:
    """The services of a state by going through everything that is written down, as a reader of the rules would."""
    found: dict[Key, dict[tuple[AllocationId, int, int], ServiceInstance]] = {}
    declared = set()
    for job in state.jobs.values():
        if not job.stopped and not job.removing:
            declared |= {(job.spec.namespace, one.name) for g in job.spec.groups for one in offered(job.spec.name, g)}
    for allocation in listed.allocations(state):
        job = state.jobs[allocation.job_uid]
        spec = state.spec_of(job, allocation.job_version)
        if not allocation.ready:
            continue
        (group,) = [one for one in spec.groups if one.name == allocation.id.group]
        for offer in offered(spec.name, group):
            (port,) = [one for one in allocation.ports if one.label == offer.port]
            instance = ServiceInstance(
                allocation=allocation.id,
                attempt=allocation.attempt,
                address=allocation.node_address,
                port=port.host_port,
                label=port.label,
                protocol=port.protocol,
                node_id=allocation.node_id,
                node_name=allocation.node_name,
            )
            found.setdefault((spec.namespace, offer.name), {})[(allocation.id, allocation.attempt, port.host_port)] = (
                instance
            )
    return {
        key: Service(
            namespace=key[0],
            name=key[1],
            instances=tuple(found.get(key, {})[place] for place in sorted(found.get(key, {}))),
            declared=key in declared,
        )
        for key in declared | found.keys()
    }


@given(data=st.data())
@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_following_the_state_gives_what_is_written_in_it(data: st.DataObject) -> None:
    world = World()
    index = ServiceIndex()
    told: dict[Key, Service] = {}
    seen_at = 0
    most = 0
    for name in ("n0", "n1"):
        world.do(some_node(name, data.draw(st.sampled_from([4000, 40_000]))))
    for _ in range(data.draw(st.integers(1, 14))):
        for _ in range(data.draw(st.integers(1, 2))):
            disturb(world, data)
        if data.draw(st.booleans()):
            world.decide_and_apply()
        if data.draw(st.booleans()):
            world.agents_obey()
        if data.draw(st.integers(0, 9)) == 0:
            world.state = restore(capture(world.state))  # as a snapshot that takes the state's place
        index.look(world.state)
        expected = plainly(world.state)
        assert {key: index.service(key) for key in index.matching("*", "")} == expected
        most = max(most, sum(len(one.instances) for one in expected.values()))
        # A watcher that only hears of changes knows the same.
        changed = index.changed_after(seen_at) if seen_at else None
        if changed is None:
            told = dict(expected)
        else:
            told |= {key: index.service(key) for key in changed}
        seen_at = index.at
        assert {key: one for key, one in told.items() if one.declared or one.instances} == expected
    event(f"{min(most, 3)} instances")
