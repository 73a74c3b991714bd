"""Where tasks go, as a job file says it: keys, short forms, errors with their place, and writing it back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.errors import InvalidError
from orchestrator.contract.model import (
    Affinity,
    Constraint,
    ConstraintOperator,
    GroupSpec,
    JobSpec,
    JobType,
    Resources,
    Spread,
    TaintEffect,
    TaskSpec,
    Toleration,
)
from orchestrator.jobfile.check import normalise, problems
from orchestrator.jobfile.dump import dump
from orchestrator.jobfile.file import load
from tests.effort import examples

GOOD = "name: web\nimage: nginx\n"

FULL = """
name: web
image: nginx
resources: {custom: {licenses: 2}}
constraints:
- node.kernel version >= 5.15, < 7
- node.name matches gpu-[0-9]+
- node.rack not matches old.*
- cores >= 8
- node.driver = docker
- app.version = 1.2
affinity:
- {node: disk = ssd, weight: 80}
- {job: db, group: main, topology: node.rack}
- {own: true, topology: node.zone, weight: -20}
distinct_hosts: true
spread:
- node.zone
- {over: node.rack, max_skew: 2, when_unsatisfiable: place-anyway, weight: 30}
tolerations:
- gpu=only:NoSchedule
- old
- broken:NoExecute for 5m
- "*"
- {key: x, effect: NoExecute, for: 30s}
datasets: [imagenet, team/corpus]
"""


def test_every_key_arrives_in_the_spec() -> None:
    (group,) = load(FULL).groups
    assert group.resources.custom == (("licenses", 2),)
    assert [(one.attribute, one.operator, one.values) for one in group.constraints] == [
        ("node.kernel", ConstraintOperator.VERSION, (">= 5.15", "< 7")),
        ("node.name", ConstraintOperator.MATCHES, ("gpu-[0-9]+",)),
        ("node.rack", ConstraintOperator.NOT_MATCHES, ("old.*",)),
        ("cores", ConstraintOperator.GREATER_EQUAL, ("8",)),
        ("node.driver", ConstraintOperator.EQUAL, ("docker",)),
        ("app.version", ConstraintOperator.EQUAL, ("1.2",)),
    ]
    ssd = Constraint(attribute="disk", operator=ConstraintOperator.EQUAL, values=("ssd",))
    assert group.affinity == (
        Affinity(constraint=ssd, weight=80),
        Affinity(job="db", group="main", topology="node.rack"),
        Affinity(topology="node.zone", weight=-20),
        Affinity(weight=-100, required=True),
    )
    assert group.spread == (
        Spread(attribute="node.zone"),
        Spread(attribute="node.rack", max_skew=2, required=False, weight=30),
    )
    assert group.tolerations == (
        Toleration(key="gpu", value="only", effect=TaintEffect.NO_SCHEDULE),
        Toleration(key="old"),
        Toleration(key="broken", effect=TaintEffect.NO_EXECUTE, delay_ms=300_000),
        Toleration(),
        Toleration(key="x", effect=TaintEffect.NO_EXECUTE, delay_ms=30_000),
    )
    assert (group.datasets, group.locality) == (("imagenet", "team/corpus"), 50)


def test_it_is_written_back_as_it_was_read() -> None:
    assert load(dump(load(FULL))) == load(FULL)
    assert "distinct_hosts: true" in dump(load(FULL))


def test_beside_groups_the_keys_are_for_all_of_them() -> None:
    spec = load(
        "name: web\naffinity: [{own: true}]\nspread: [node.zone]\ntolerations: [gpu]\n"
        "groups: {a: {image: nginx}, b: {image: redis, tolerations: [old], locality: 10}}\n"
    )
    assert (spec.affinity, spec.tolerations) == ((Affinity(),), (Toleration(key="gpu"),))
    assert [(group.tolerations, group.locality) for group in spec.groups] == [((), 0), ((Toleration(key="old"),), 10)]
    assert load(dump(spec)) == spec


BAD = [
    (
        "constraints: [kernel version newer]\n",
        "job.yaml:3:15: constraints[0].value: expected a comparison with a version",
    ),
    ("constraints: [version >= 1.2, < 2]\n", "job.yaml:3"),
    ("constraints: ['a matches (']\n", "job.yaml:3:15: constraints[0].value: a '(' is not closed"),
    ("constraints: ['cores >= many']\n", "job.yaml:3:15: constraints[0].value: expected a number to compare with"),
    ("constraints: ['cores >= 1.2, < 2']\n", "did you mean 'cores version ...'?"),
    ("constraints: [node.Zone = a]\n", "did you mean 'node.zone'?"),
    ("affinity: [{weight: 5}]\n", "job.yaml:3:12: affinity[0]: expected exactly one of 'node', 'job' and 'own'"),
    (
        "affinity: [{job: db, own: true}]\n",
        "job.yaml:3:12: affinity[0]: expected exactly one of 'node', 'job' and 'own'",
    ),
    ("affinity: [db]\n", "job.yaml:3:12: affinity[0]: expected an affinity such as"),
    ("affinity: [{job: db, weight: 101}]\n", "job.yaml:3:30: affinity[0].weight: must be from -100 to 100"),
    ("affinity: [{job: db, weight: 0}]\n", "affinity[0].weight: must be from -100 to 100 and not 0"),
    ("affinity: [{node: zone, weight: 1}]\n", "job.yaml:3:19: affinity[0].node: expected a constraint"),
    ("affinity: [{node: a matches (, weight: 1}]\n", "job.yaml:3:19: affinity[0].node.value: a '(' is not closed"),
    ("affinity: [{node: a = b, required: true}]\n", "job.yaml:3:36: affinity[0].required: a condition on nodes"),
    ("affinity: [{jobb: db}]\n", "affinity[0]: expected exactly one"),
    ("affinity: [{job: db, topolgy: a}]\n", "job.yaml:3:22: unknown key 'topolgy'; did you mean 'topology'?"),
    ("spread: [{over: node.zone, max_skew: 0}]\n", "job.yaml:3:38: spread[0].max_skew: must be from 1"),
    ("spread: [{over: node.zone, when_unsatisfiable: never}]\n", "expected one of wait, place-anyway"),
    ("spread: [{over: node.zone, weight: 7}]\n", "job.yaml:3:36: spread[0].weight: nothing is weighed against what"),
    ("spread: [{max_skew: 1}]\n", "job.yaml:3:10: spread[0]: 'over' is missing"),
    ("tolerations: ['gpu=only:Never']\n", "job.yaml:3:15: tolerations[0]: expected one of NoSchedule"),
    ("tolerations: ['gpu:NoSchedule for 5m']\n", "tolerations[0].for: only NoExecute drives anything away"),
    ("tolerations: [{key: a, fro: 5m}]\n", "unknown key 'fro'; did you mean 'for'?"),
    ("resources: {custom: {licenses: 0}}\n", "job.yaml:3:32: resources.custom.licenses: must be from 1"),
    ("resources: {custom: {licenses: 1.5}}\n", "resources.custom.licenses: expected a whole number"),
    ("resources: {custom: {cpu: 1}}\n", "'cpu' stands beside 'custom'"),
    ("datasets: [a]\nlocality: 0\n", "datasets: with 'locality: 0' they decide nothing"),
    ("locality: 101\n", "job.yaml:3:11: locality: must be from 0 to 100"),
    ("type: system\nspread: [node.zone]\n", "job.yaml:4:9: spread: a system job runs on every matching node"),
    ("type: system\ndistinct_hosts: true\n", "affinity: a system job runs on every matching node"),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[text.strip().replace("\n", " ") for text, _ in BAD])
def test_a_mistake_is_told_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(InvalidError) as caught:
        load(GOOD + text)
    assert expected in caught.value.message


_WEIGHTS = st.integers(-100, 100).filter(bool)
_NAMES = st.sampled_from(["", "db", "a-1"])
_CONSTRAINTS = st.sampled_from(
    [
        Constraint(attribute="disk", operator=ConstraintOperator.IN, values=("a", "b c")),
        Constraint(attribute="node.kernel", operator=ConstraintOperator.VERSION, values=(">= 1", "< 2")),
        Constraint(attribute="x", operator=ConstraintOperator.MATCHES, values=("a, b|[c]",)),
        Constraint(attribute="x", operator=ConstraintOperator.EXISTS),
    ]
)
_AFFINITIES = st.builds(Affinity, constraint=_CONSTRAINTS, weight=_WEIGHTS) | st.builds(
    Affinity,
    job=_NAMES,
    group=_NAMES,
    topology=st.sampled_from(["node.id", "node.rack"]),
    weight=_WEIGHTS,
    required=st.booleans(),
)
_SPREADS = st.builds(
    Spread, attribute=st.just("node.zone"), max_skew=st.integers(1, 5), required=st.just(True)
) | st.builds(
    Spread,
    attribute=st.just("node.zone"),
    max_skew=st.integers(1, 5),
    required=st.just(False),
    weight=st.integers(1, 100),
)
_TOLERATIONS = st.builds(
    Toleration,
    key=st.sampled_from(["", "gpu"]),
    value=st.sampled_from([None, "", "only"]),
    effect=st.sampled_from([None, TaintEffect.NO_EXECUTE]),
    delay_ms=st.sampled_from([None, 0, 1_500, 60_000]),
)


@given(
    affinity=st.lists(_AFFINITIES, max_size=3),
    spread=st.lists(_SPREADS, max_size=2),
    tolerations=st.lists(_TOLERATIONS, max_size=3),
    constraints=st.lists(_CONSTRAINTS, max_size=2),
    datasets=st.lists(st.sampled_from(["a", "b/c"]), unique=True),
    locality=st.integers(1, 100),
    custom=st.sampled_from([(), (("cards", 1), ("licenses", 3))]),
    above=st.booleans(),
)
@settings(max_examples=examples(150), deadline=None)
def test_any_valid_placement_survives_dump_and_load(
    affinity: list[Affinity],
    spread: list[Spread],
    tolerations: list[Toleration],
    constraints: list[Constraint],
    datasets: list[str],
    locality: int,
    custom: tuple[tuple[str, int], ...],
    above: bool,
) -> None:
    group = GroupSpec(
        name="main",
        tasks=(TaskSpec(name="main", image="nginx", resources=Resources(custom=custom)),),
        affinity=tuple(affinity),
        spread=tuple(spread),
        tolerations=tuple(tolerations),
        constraints=tuple(constraints),
        datasets=tuple(datasets),
        locality=locality,
    )
    spec = JobSpec(name="web", groups=(group,))
    if above:
        spec = JobSpec(
            name="web", groups=(group,), affinity=group.affinity, spread=group.spread, tolerations=group.tolerations
        )
    spec = normalise(spec)
    assert problems(spec, placements=None) == []
    assert load(dump(spec)) == spec


def test_the_server_refuses_what_only_a_hand_written_client_would_send() -> None:
    bad = GroupSpec(
        name="main",
        tasks=(TaskSpec(name="main", image="nginx"),),
        affinity=(Affinity(constraint=Constraint(attribute="a", operator=ConstraintOperator.EXISTS), job="b"),),
        tolerations=(Toleration(key="a b"),),
    )
    found = problems(normalise(JobSpec(name="web", type=JobType.SERVICE, groups=(bad,))), placements=None)
    assert found[0] == "groups[0].affinity[0]: expected a constraint, or a job with group and topology"
    assert found[1].startswith("groups[0].tolerations[0].key: expected the key of a taint")
