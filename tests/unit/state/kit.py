"""A replicated state to play with: commands in short words, every one through the codec, invariants after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from orchestrator.contract.model import (
    Allocation,
    AllocationId,
    AllocState,
    AssignmentKey,
    Device,
    DeviceRequest,
    GangSpec,
    GroupSpec,
    JobSpec,
    JobType,
    Limits,
    NodeSpec,
    Observation,
    PortSpec,
    Resources,
    TaskSpec,
    Toleration,
)
from orchestrator.replication.codec import decode_entry, encode_entry
from orchestrator.state import views
from orchestrator.state.apply import apply
from orchestrator.state.commands import (
    Action,
    ActionColumns,
    Applied,
    ApplyPlan,
    Command,
    Entry,
    JobSubmission,
    Outcome,
    PlacementColumns,
    PlanAnswer,
    RecordStatuses,
    RegisterNode,
    Rejected,
    SubmitJobs,
)
from orchestrator.state.invariants import check
from orchestrator.state.state import State, new_state

NO_INTS = np.zeros(0, dtype=np.int32)


def group(
    name: str = "api",
    count: int = 1,
    *,
    cpu: int = 100,
    memory: int = 64,
    gpus: int = 0,
    share: int = 1000,
    ports: tuple[int, ...] = (),
    image: str = "nginx",
    variables: tuple[tuple[str, str], ...] = (),
    gang: GangSpec | None = None,
    licenses: int = 0,
    tolerations: tuple[Toleration, ...] = (),
) -> GroupSpec:
    """``ports``: the static host port of each, 0 = any."""
    return GroupSpec(
        name=name,
        count=count,
        tasks=(
            TaskSpec(
                name="main",
                image=image,
                resources=Resources(
                    cpu_millis=cpu,
                    memory_mib=memory,
                    gpus=DeviceRequest(count=gpus, gpu_millis=share) if gpus else None,
                    custom=(("licenses", licenses),) if licenses else (),
                ),
                variables=variables,
            ),
        ),
        ports=tuple(PortSpec(label=f"p{place}", static=static) for place, static in enumerate(ports)),
        gang=gang,
        tolerations=tolerations,
    )


def job(name: str = "web", *groups: GroupSpec, kind: JobType = JobType.SERVICE) -> JobSpec:
    return JobSpec(name=name, type=kind, groups=groups or (group(),))


def node(
    name: str, *, cpu: int = 1000, memory: int = 1024, gpus: int = 0, engine: str = "", licenses: int = 0
) -> NodeSpec:
    return NodeSpec(
        id=name,
        name=name,
        engine_id=engine,
        drivers=("docker",),
        capacity=Resources(
            cpu_millis=cpu,
            memory_mib=memory,
            disk_mib=1000,
            custom=(("licenses", licenses),) if licenses else (),
        ),
        devices=tuple(Device(id=f"{name}-gpu-{place}", model="T4", memory_mib=16_000) for place in range(gpus)),
    )


def columns(rows: Sequence[Sequence[int]], width: int) -> list[np.ndarray[tuple[int], np.dtype[np.int32]]]:
    table = np.array(rows, dtype=np.int32).reshape(-1, width)
    return [table[:, place].copy() for place in range(width)]


class Placement:
    """One row of a plan; what is not said is what a good planner would say."""

    def __init__(
        self,
        alloc: str,
        node_id: str,
        *,
        attempt: int | None = None,
        version: int | None = None,
        devices: tuple[int, ...] | None = None,
        millis: int | None = None,
        ports: tuple[int, ...] = (),
    ) -> None:
        self.alloc, self.node_id, self.attempt, self.version = alloc, node_id, attempt, version
        self.devices, self.millis, self.ports = devices, millis, ports


class Kit:
    """A state, its clock, and the entries that made it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits
        self.state: State = new_state(limits)
        self.entries: list[bytes] = []
        self.now_ms = 1_000_000
        self.checked = True

    def do(
        self, command: Command, *, request_id: str = "", digest: bytes = b"d", identity: str = "client:a"
    ) -> Outcome:
        """Apply one command as the log would; fails if an invariant is broken afterwards."""
        self.now_ms += 1
        entry = Entry(identity=identity, request_id=request_id, digest=digest, time_ms=self.now_ms, command=command)
        payload = encode_entry(entry)
        self.entries.append(payload)
        outcome = apply(self.state, decode_entry(payload))
        if self.checked:
            assert check(self.state) == []
        return outcome

    def ok(self, command: Command) -> Applied:
        outcome = self.do(command)
        assert isinstance(outcome, Applied), outcome
        return outcome

    def refused(self, command: Command) -> Rejected:
        outcome = self.do(command)
        assert isinstance(outcome, Rejected), outcome
        return outcome

    # ------------------------------------------------------------------------ jobs and nodes

    def submit(self, *specs: JobSpec, expect: int | None = None) -> Outcome:
        return self.do(
            SubmitJobs(
                jobs=tuple(
                    JobSubmission(spec=spec, uid=f"uid-{spec.name}-{self.state.index}", expect_version=expect)
                    for spec in specs
                )
            )
        )

    def register(self, spec: NodeSpec) -> Outcome:
        return self.do(RegisterNode(node=spec, identity=f"agent:{spec.id}"))

    # ------------------------------------------------------------------------ plans

    def plan(self, *placements: Placement, actions: Sequence[tuple[Action, str, str]] = ()) -> PlanAnswer:
        """``actions``: (what, ``web/api/0`` or ``web/api/0#2`` for an attempt, reason)."""
        outcome = self.ok(self.make_plan(*placements, actions=actions))
        assert isinstance(outcome.answer, PlanAnswer)
        return outcome.answer

    def make_plan(self, *placements: Placement, actions: Sequence[tuple[Action, str, str]] = ()) -> ApplyPlan:
        uids: list[str] = []
        nodes: list[str] = []
        reasons = [reason for _, _, reason in actions]
        rows, masks, offsets = [], [], [0]
        ports: list[int] = []
        for wanted in placements:
            uid, number, ordinal, newest = self._find(wanted.alloc)
            known = self.state.jobs[uid]
            need = known.spec.groups[number].resources.gpus
            devices = wanted.devices if wanted.devices is not None else tuple(range(need.count if need else 0))
            millis = wanted.millis if wanted.millis is not None else (need.gpu_millis if need else 0)
            attempt = wanted.attempt if wanted.attempt is not None else newest + 1
            version = wanted.version if wanted.version is not None else known.version
            rows.append((_place(uids, uid), number, ordinal, attempt, version, _place(nodes, wanted.node_id), millis))
            masks.append(sum(1 << device for device in devices))
            ports.extend(wanted.ports)
            offsets.append(len(ports))
        acts = []
        for place, (action, alloc, _) in enumerate(actions):
            name, _, said = alloc.partition("#")
            uid, number, ordinal, newest = self._find(name)
            row = self.row(name)
            behind = int(self.state.table.prev[row]) if row >= 0 else -1
            if said and behind >= 0 and int(self.state.table.attempt[behind]) == int(said):
                row = behind
            version = int(self.state.table.version[row]) if row >= 0 else 1
            number = int(self.state.table.group[row]) if row >= 0 else number
            acts.append(
                (_place(uids, uid), number, ordinal, int(said) if said else newest, int(action), place, version)
            )
        job_, group_, ordinal_, attempt_, version_, node_, millis_ = columns(rows, 7)
        a_job, a_group, a_ordinal, a_attempt, a_action, a_reason, a_version = columns(acts, 7)
        return ApplyPlan(
            based_on=self.state.index,
            jobs=tuple(uids),
            nodes=tuple(nodes),
            reasons=tuple(reasons),
            actions=ActionColumns(
                job=a_job,
                group=a_group,
                ordinal=a_ordinal,
                attempt=a_attempt,
                action=a_action,
                reason=a_reason,
                version=a_version,
            ),
            placements=PlacementColumns(
                job=job_,
                group=group_,
                ordinal=ordinal_,
                attempt=attempt_,
                version=version_,
                node=node_,
                device_mask=np.array(masks, dtype=np.uint64),
                gpu_millis=millis_,
                ports=np.array(ports, dtype=np.int32),
                port_offsets=np.array(offsets, dtype=np.int32),
            ),
        )

    def place(self, alloc: str, node_id: str, **details: object) -> PlanAnswer:
        return self.plan(Placement(alloc, node_id, **details))  # type: ignore[arg-type]

    def stop(self, alloc: str, reason: str = "surplus") -> PlanAnswer:
        return self.plan(actions=[(Action.STOP, alloc, reason)])

    def lose(self, alloc: str, reason: str = "its node is lost") -> PlanAnswer:
        return self.plan(actions=[(Action.LOSE, alloc, reason)])

    # ------------------------------------------------------------------------ observations

    def key(self, alloc: str, attempt: int | None = None) -> AssignmentKey:
        name, group_name, ordinal = alloc.rsplit("/", 2)
        uid, _, _, newest = self._find(alloc)
        return AssignmentKey(
            id=AllocationId(namespace="default", job=name, group=group_name, ordinal=int(ordinal)),
            job_uid=uid,
            attempt=newest if attempt is None else attempt,
        )

    def observe(
        self,
        alloc: str,
        state: AllocState,
        *,
        node_id: str = "",
        attempt: int | None = None,
        restarts: int = 0,
        exit_code: int = 0,
        reason: str = "",
        start_failed: bool = False,
    ) -> Outcome:
        """What the allocation's own node says, unless another one is named."""
        observation = Observation(
            key=self.key(alloc, attempt),
            restarts=restarts,
            state=state,
            exit_code=exit_code,
            reason=reason,
            start_failed=start_failed,
        )
        return self.do(
            RecordStatuses(
                node_id=node_id or self.alloc(alloc, attempt if attempt in self.attempts(alloc) else 0).node_id,
                observations=(observation,),
            )
        )

    # ------------------------------------------------------------------------ looking

    def alloc(self, alloc: str, attempt: int = 0) -> Allocation:
        row = self.row(alloc)
        while attempt and row >= 0 and int(self.state.table.attempt[row]) != attempt:
            row = int(self.state.table.prev[row])
        assert row >= 0, f"there is no {alloc} (attempt {attempt or 'any'})"
        return views.allocation(self.state, row)

    def attempts(self, alloc: str) -> list[int]:
        """The attempts that the table still has, newest first."""
        rows = [self.row(alloc)]
        while rows[-1] >= 0:
            rows.append(int(self.state.table.prev[rows[-1]]))
        return [int(self.state.table.attempt[row]) for row in rows[:-1]]

    def row(self, alloc: str) -> int:
        name, group_name, ordinal = alloc.rsplit("/", 2)
        known = self.state.find_job("default", name)
        assert known is not None
        return self.state.ordinals.find(self.state.ordinals.gids[(known.slot, group_name)], int(ordinal))

    def kinds(self, after: int = 0) -> list[str]:
        return [event.kind for event in self.state.events.after(after)]

    def _find(self, alloc: str) -> tuple[str, int, int, int]:
        """(uid, the group's place, ordinal, highest attempt)."""
        name, group_name, ordinal = alloc.rsplit("/", 2)
        known = self.state.find_job("default", name)
        assert known is not None, f"there is no job {name}"
        names = [group.name for group in known.spec.groups]
        gid = self.state.ordinals.gids[(known.slot, group_name)]
        attempts = self.state.ordinals.attempts(gid)
        newest = int(attempts[int(ordinal)]) if int(ordinal) < len(attempts) else 0
        number = names.index(group_name) if group_name in names else 0
        return known.uid, number, int(ordinal), newest


def _place(names: list[str], name: str) -> int:
    if name not in names:
        names.append(name)
    return names.index(name)


def with_count(spec: JobSpec, count: int) -> JobSpec:
    return replace(spec, groups=tuple(replace(group, count=count) for group in spec.groups))
