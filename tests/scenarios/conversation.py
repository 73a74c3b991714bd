"""The words of the scenario files: one line, one command; the answer in one line, then the events in their order.

Lines (``key=value`` where there is a choice):

    submit JOB GROUP:COUNT... [type=batch] [cpu=] [gpus=] [share=] [ports=0,80] [image=] [expect=] [id=REQUEST]
        [priority=] [budget=1|25%] [preemptible=no] [in=NAMESPACE]
        [gang=restart|replace] [licenses=] [tolerate=TOLERATION+...]
    scale JOB COUNT, stop JOB, restart JOB, remove JOB, move ALLOC[#ATTEMPT]
    node ID [cpu=] [gpus=] [engine=] [as=IDENTITY] [licenses=]
    cordon ID [device=], uncordon ID [device=], drain ID, forget ID, lost ID, back ID
    taint ID key=value:Effect|key:Effect|key-...   decide (the leader's round, as it would be proposed and applied)
    plan [place JOB/GROUP/N NODE [attempt=] [version=] [devices=0+1] [ports=80+81]], [stop ALLOC], [lose ALLOC], ...
    round (what the leader would propose now), why JOB (what it says of it)
    namespace create|set|delete NAME [cpu=MILLIS] [jobs=] [allocations=], settings preemption=off
    saw ALLOC[#ATTEMPT] STATE [from=NODE] [restarts=] [exit=] [reason=] [nostart]
    put NAME VALUE [create|expect=VALUE], delete NAME [expect=VALUE]
    wait SECONDS, collect, admit CLUSTER PEER=INCARNATION..., feature LEVEL
    show JOB (how it stands), told NODE [after=last] (what its agent hears), rows JOB
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orchestrator.contract import taints
from orchestrator.contract.model import (
    AllocState,
    Disruption,
    Event,
    GangFailure,
    GangSpec,
    JobType,
    Quota,
    SettingsChange,
    Toleration,
)
from orchestrator.contract.transitions import is_terminal
from orchestrator.plan import decide, explain
from orchestrator.state import views
from orchestrator.state.commands import (
    Action,
    AdmitPeers,
    Applied,
    ChangePeers,
    Collect,
    Command,
    CordonDevice,
    CordonNode,
    DrainNode,
    Expectation,
    ForgetNode,
    JobsAnswer,
    JobSubmission,
    MarkNodes,
    MoveAllocation,
    NamespaceWrite,
    NodeMark,
    Outcome,
    PinAnswer,
    PlanAnswer,
    RegisterNode,
    RemoveJob,
    RestartJob,
    ScaleJob,
    SetFeatureLevel,
    SetSettings,
    StopJob,
    SubmitJobs,
    TaintNode,
    VariableAnswer,
    VariablesAnswer,
    WriteAnswer,
    WriteNamespace,
    WriteVariable,
    WriteVariables,
)
from orchestrator.state.status import job_status
from tests import listed
from tests.unit.state.kit import Kit, Placement, group, job, node


class Conversation:
    """One state, and what it answers to lines."""

    def __init__(self) -> None:
        self.kit = Kit()
        self.words: dict[str, Callable[[list[str], dict[str, str]], str]] = {
            name.removeprefix("_say_"): getattr(self, name) for name in dir(self) if name.startswith("_say_")
        }

    def run(self, said: str) -> str:
        """What happens at these lines; comments are skipped."""
        answers = []
        for line in said.splitlines():
            if line.strip() and not line.startswith("#"):
                answers.append(self._line(line))
        return "\n".join(answers)

    def _line(self, line: str) -> str:
        word, *rest = line.split()
        before = self.kit.state.index
        if word == "plan":
            answer = self._plan(line.removeprefix("plan"))
        else:
            answer = self.words[word]([part for part in rest if "=" not in part], _options(rest))
        events = [event for event in self.kit.state.events.after(before) if event.index > before]
        told = [
            " ".join(part for part in (f"  {event.kind}", _subject(event), _said(event.message)) if part)
            for event in events
        ]
        return "\n".join([answer, *told])

    def _do(self, command: Command, options: dict[str, str] | None = None) -> str:
        said = options or {}
        request_id = said.get("id", "")
        return _answer(self.kit.do(command, request_id=request_id, digest=repr(command).encode()[-64:]))

    # ------------------------------------------------------------------------ jobs

    def _say_submit(self, words: list[str], options: dict[str, str]) -> str:
        name, *groups = words
        ports = tuple(int(port) for port in options.get("ports", "").split(",") if port)
        spec = job(
            name,
            *(
                group(
                    text.partition(":")[0],
                    int(text.partition(":")[2] or 1),
                    cpu=int(options.get("cpu", "100")),
                    gpus=int(options.get("gpus", "0")),
                    share=int(options.get("share", "1000")),
                    image=options.get("image", "nginx"),
                    ports=ports,
                    gang=_gang(options.get("gang", "")),
                    licenses=int(options.get("licenses", "0")),
                    tolerations=tuple(_toleration(text) for text in options.get("tolerate", "").split("+") if text),
                )
                for text in groups
            ),
            kind=JobType[options.get("type", "service").upper()],
        )
        budget = options.get("budget", "")
        spec = replace(
            spec,
            namespace=options.get("in", "default"),
            priority=int(options.get("priority", "50")),
            unpreemptible=options.get("preemptible") == "no",
            disruption=Disruption(max_unavailable=int(budget.rstrip("%")), percent=budget.endswith("%"))
            if budget
            else None,
        )
        expect = int(options["expect"]) if "expect" in options else None
        submission = JobSubmission(spec=spec, uid=f"uid-{name}-{len(self.kit.entries)}", expect_version=expect)
        if "id" in options:
            submission = JobSubmission(spec=spec, uid=f"uid-{name}", expect_version=expect)
        return self._do(SubmitJobs(jobs=(submission,)), options)

    def _say_scale(self, words: list[str], options: dict[str, str]) -> str:
        wanted = options.get("group", "")
        return self._do(ScaleJob(namespace="default", name=words[0], group=wanted, count=int(words[1])), options)

    def _say_stop(self, words: list[str], options: dict[str, str]) -> str:
        return self._do(StopJob(namespace="default", name=words[0]), options)

    def _say_restart(self, words: list[str], options: dict[str, str]) -> str:
        return self._do(RestartJob(namespace="default", name=words[0]), options)

    def _say_remove(self, words: list[str], options: dict[str, str]) -> str:
        return self._do(RemoveJob(namespace="default", name=words[0]), options)

    def _say_move(self, words: list[str], options: dict[str, str]) -> str:
        alloc, _, said = words[0].partition("#")
        name, group_name, ordinal = alloc.split("/")
        attempt = int(said) if said else self.kit.alloc(alloc).attempt
        return self._do(
            MoveAllocation(namespace="default", name=name, group=group_name, ordinal=int(ordinal), attempt=attempt),
            options,
        )

    # ------------------------------------------------------------------------ nodes

    def _say_node(self, words: list[str], options: dict[str, str]) -> str:
        spec = node(
            words[0],
            cpu=int(options.get("cpu", "1000")),
            gpus=int(options.get("gpus", "0")),
            engine=options.get("engine", ""),
            licenses=int(options.get("licenses", "0")),
        )
        spec = replace(spec, drivers=("docker", "process"))
        return self._do(RegisterNode(node=spec, identity=options.get("as", f"agent:{words[0]}")))

    def _say_cordon(self, words: list[str], options: dict[str, str]) -> str:
        return self._cordon(words[0], options.get("device", ""), True)

    def _say_uncordon(self, words: list[str], options: dict[str, str]) -> str:
        return self._cordon(words[0], options.get("device", ""), False)

    def _cordon(self, node_id: str, device: str, cordoned: bool) -> str:
        if device:
            return self._do(CordonDevice(node_id=node_id, device_id=device, cordoned=cordoned))
        return self._do(CordonNode(node_id=node_id, cordoned=cordoned))

    def _say_drain(self, words: list[str], options: dict[str, str]) -> str:
        return self._do(DrainNode(node_id=words[0]))

    def _say_taint(self, words: list[str], options: dict[str, str]) -> str:
        # ``gpu=only:NoSchedule`` looks like an option.
        put = [taints.parse(f"{key}={value}") for key, value in options.items()]
        put += [taints.parse(word) for word in words[1:] if not word.endswith("-")]
        drop = [taints.parse_key(word.removesuffix("-")) for word in words[1:] if word.endswith("-")]
        return self._do(TaintNode(node_id=words[0], put=tuple(put), drop=tuple(drop)))

    def _say_decide(self, words: list[str], options: dict[str, str]) -> str:
        decision = decide(views.cluster_view(self.kit.state), self.kit.now_ms)
        answers = [_answer(self.kit.do(plan)) for plan in decision.plans] or ["nothing to do"]
        if decision.unplaced.no_room:
            answers.append(f"{decision.unplaced.no_room} without a node")
        if decision.wake_at_ms is not None:
            answers.append(f"again in {-((self.kit.now_ms - decision.wake_at_ms) // 1000)} s")
        return ", ".join(answers)

    def _say_forget(self, words: list[str], options: dict[str, str]) -> str:
        return self._do(ForgetNode(node_id=words[0]))

    def _say_lost(self, words: list[str], options: dict[str, str]) -> str:
        return self._do(MarkNodes(lost=(self._mark(words[0], options),)))

    def _say_back(self, words: list[str], options: dict[str, str]) -> str:
        return self._do(MarkNodes(back=(self._mark(words[0], options),)))

    def _mark(self, node_id: str, options: dict[str, str]) -> NodeMark:
        known = self.kit.state.nodes.get(node_id)
        judged = int(options["registered"]) if "registered" in options else known.register_index if known else 0
        return NodeMark(node_id=node_id, register_index=judged, reason="silent")

    # ------------------------------------------------------------------------ plans and observations

    def _plan(self, text: str) -> str:
        placements, actions = [], []
        for part in text.split(","):
            # Commas separate rows; lists inside a row use '+'.
            word, *rest = part.split()
            words = [item for item in rest if "=" not in item]
            options = _options(rest)
            if word == "place":
                placements.append(
                    Placement(
                        words[0],
                        words[1],
                        attempt=int(options["attempt"]) if "attempt" in options else None,
                        version=int(options["version"]) if "version" in options else None,
                        devices=_numbers(options["devices"]) if "devices" in options else None,
                        ports=_numbers(options.get("ports", "")),
                    )
                )
            else:
                actions.append((Action[word.upper()], words[0], options.get("reason", "by-plan")))
        return _answer(self.kit.do(self.kit.make_plan(*placements, actions=actions)))

    def _say_round(self, words: list[str], options: dict[str, str]) -> str:
        plans = decide(views.cluster_view(self.kit.state), self.kit.now_ms).plans
        return "\n".join(_answer(self.kit.do(plan)) for plan in plans) or "nothing to propose"

    def _say_why(self, words: list[str], options: dict[str, str]) -> str:
        known = self.kit.state.find_job("default", words[0])
        assert known is not None
        groups = explain(views.cluster_view(self.kit.state), known.uid, self.kit.now_ms)
        return "\n".join(f"{group.group}: {group.summary}" for group in groups)

    def _say_namespace(self, words: list[str], options: dict[str, str]) -> str:
        names = {"cpu": "cpu_millis", "jobs": "jobs", "allocations": "allocations"}
        quota = Quota(**{names[name]: int(value) for name, value in options.items()})
        return self._do(WriteNamespace(name=words[1], kind=NamespaceWrite[words[0].upper()], quota=quota))

    def _say_settings(self, words: list[str], options: dict[str, str]) -> str:
        return self._do(SetSettings(change=SettingsChange(**{name: on == "on" for name, on in options.items()})))

    def _say_saw(self, words: list[str], options: dict[str, str]) -> str:
        alloc, _, attempt = words[0].partition("#")
        return _answer(
            self.kit.observe(
                alloc,
                AllocState[words[1].upper()],
                node_id=options.get("from", ""),
                attempt=int(attempt) if attempt else None,
                restarts=int(options.get("restarts", "0")),
                exit_code=int(options.get("exit", "0")),
                reason=options.get("reason", ""),
                start_failed="nostart" in words,
            )
        )

    # ------------------------------------------------------------------------ variables and housekeeping

    def _say_put(self, words: list[str], options: dict[str, str]) -> str:
        wanted = Expectation.ABSENT if "create" in words else Expectation.NONE
        wanted = Expectation.VALUE if "expect" in options else wanted
        return self._do(
            WriteVariable(
                namespace="default",
                name=words[0],
                value=words[1],
                expectation=wanted,
                expected=options.get("expect", ""),
            ),
            options,
        )

    def _say_put_many(self, words: list[str], options: dict[str, str]) -> str:
        """``name:value`` each, in one entry."""
        writes = [word.split(":", 1) for word in words if ":" in word]
        return self._do(
            WriteVariables(
                writes=tuple(WriteVariable(namespace="default", name=name, value=value) for name, value in writes)
            ),
            options,
        )

    def _say_delete(self, words: list[str], options: dict[str, str]) -> str:
        wanted = Expectation.VALUE if "expect" in options else Expectation.NONE
        expected = options.get("expect", "")
        return self._do(
            WriteVariable(namespace="default", name=words[0], value=None, expectation=wanted, expected=expected),
            options,
        )

    def _say_wait(self, words: list[str], options: dict[str, str]) -> str:
        self.kit.now_ms += int(words[0]) * 1000
        return "time passes"

    def _say_collect(self, words: list[str], options: dict[str, str]) -> str:
        return self._do(Collect())

    def _say_admit(self, words: list[str], options: dict[str, str]) -> str:
        return self._do(AdmitPeers(cluster_id=words[0], incarnations=tuple(sorted(options.items()))))

    def _say_peers(self, words: list[str], options: dict[str, str]) -> str:
        """``peers EPOCH a=host:1/disk ...``"""
        split = {peer: text.partition("/") for peer, text in sorted(options.items())}
        return self._do(
            ChangePeers(
                expected_epoch=int(words[0]),
                addresses=tuple((peer, address) for peer, (address, _, _) in split.items()),
                incarnations=tuple((peer, disk) for peer, (_, _, disk) in split.items()),
            )
        )

    def _say_feature(self, words: list[str], options: dict[str, str]) -> str:
        return self._do(SetFeatureLevel(level=int(words[0])))

    # ------------------------------------------------------------------------ looking

    def _say_show(self, words: list[str], options: dict[str, str]) -> str:
        known = self.kit.state.find_job("default", words[0])
        if known is None:
            return "no such job"
        status = job_status(self.kit.state, known)
        counts = (
            ", ".join(f"{value} {name}" for name, value in _counts(group_status)) or "nothing"
            for group_status in status.groups
        )
        lines = [f"  {group_status.group}: {text}" for group_status, text in zip(status.groups, counts, strict=True)]
        return "\n".join([f"version {status.version}, {status.state}", *lines])

    def _say_told(self, words: list[str], options: dict[str, str]) -> str:
        after = self.kit.state.index - 1 if options.get("after") == "last" else 0
        update = views.assignments_for(self.kit.state, words[0], after)
        lines = [
            *(
                f"  {sub.desired.name.lower()} {sub.key.id}#{sub.key.attempt} ({sub.group.tasks[0].image})"
                for sub in update.assignments
            ),
            *(f"  removed {key.id}#{key.attempt}" for key in update.removed),
            *(f"  superseded {key.id}#{key.attempt}" for key in update.superseded),
        ]
        return "\n".join([f"{'everything' if update.full else 'changes'}:", *(lines or ["  nothing"])])

    def _say_rows(self, words: list[str], options: dict[str, str]) -> str:
        found = listed.allocations(self.kit.state, namespace="default", job=words[0])
        lines = [
            f"  {row.id}#{row.attempt} v{row.job_version} {row.state.name.lower()} on {row.node_id}"
            + (f" ports {[binding.host_port for binding in row.ports]}" if row.ports else "")
            + (f" devices {list(row.device_ids)}" if row.device_ids else "")
            + ("" if is_terminal(row.state) or row.desired.name == "RUN" else ", to stop")
            + (f": {row.reason}" if row.reason else "")
            for row in found
        ]
        return "\n".join([f"{len(found)} rows", *lines])


def _gang(on_failure: str) -> GangSpec | None:
    return GangSpec(on_failure=GangFailure[on_failure.upper()]) if on_failure else None


def _toleration(text: str) -> Toleration:
    """``gpu``, ``gpu:NoSchedule``, ``broken~60`` (for 60 s)."""
    head, _, seconds = text.partition("~")
    key, _, effect = head.partition(":")
    return Toleration(
        key=key, effect=taints.EFFECTS[effect] if effect else None, delay_ms=int(seconds) * 1000 if seconds else None
    )


def _options(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+") if part)


def _subject(event: Event) -> str:
    return event.allocation or event.job or event.node_id


def _said(message: str) -> str:
    return f"({message})" if message else ""


def _counts(status: object) -> list[tuple[str, int]]:
    names = ("running", "starting", "pending", "complete", "failed", "lost", "outdated")
    return [(name, getattr(status, name)) for name in names if getattr(status, name)]


def _answer(outcome: Outcome) -> str:
    if not isinstance(outcome, Applied):
        return f"rejected {outcome.reason}: {outcome.message}"
    again = f" (repeated, first at {outcome.index})" if outcome.repeated else ""
    match outcome.answer:
        case WriteAnswer(changed=changed):
            return ("done" if changed else "nothing to do") + again
        case JobsAnswer(jobs=jobs):
            return ", ".join(f"version {sub.version}{'' if sub.changed else ' as before'}" for sub in jobs) + again
        case PlanAnswer(placed=placed, acted=acted, rejected=rejected):
            stale = [f"  stale: {reason}" for reason in rejected]
            return "\n".join([f"placed {placed}, acted {acted}", *stale]) + again
        case VariableAnswer(variable=variable, hit=hit):
            value = f"{variable.value!r} at version {variable.version}" if variable else "absent"
            return f"{'hit' if hit else 'miss'}: {value}{again}"
        case PinAnswer(digest=digest):
            return digest
        case VariablesAnswer(outcomes=outcomes):
            return "\n".join(f"{one.index}: {_answer(one)}" for one in outcomes)
