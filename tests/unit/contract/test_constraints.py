"""The operators of constraints, as a table."""

from __future__ import annotations

import pytest

from orchestrator.contract.constraints import attribute_of, describe, matches, satisfied
from orchestrator.contract.model import Constraint, ConstraintOperator, NodeSpec

EQUAL, NOT_EQUAL = ConstraintOperator.EQUAL, ConstraintOperator.NOT_EQUAL
IN, NOT_IN = ConstraintOperator.IN, ConstraintOperator.NOT_IN
EXISTS, NOT_EXISTS = ConstraintOperator.EXISTS, ConstraintOperator.NOT_EXISTS
GREATER, LESS = ConstraintOperator.GREATER, ConstraintOperator.LESS


@pytest.mark.parametrize(
    ("operator", "values", "value", "expected"),
    [
        (EQUAL, ("a",), "a", True),
        (EQUAL, ("a",), "b", False),
        (EQUAL, ("a",), None, False),
        (EQUAL, (), None, False),
        (NOT_EQUAL, ("a",), "a", False),
        (NOT_EQUAL, ("a",), "b", True),
        (NOT_EQUAL, ("a",), None, True),
        (IN, ("a", "b"), "b", True),
        (IN, ("a", "b"), "c", False),
        (IN, ("a", "b"), None, False),
        (NOT_IN, ("a", "b"), "b", False),
        (NOT_IN, ("a", "b"), "c", True),
        (NOT_IN, ("a", "b"), None, True),
        (EXISTS, (), "", True),
        (EXISTS, (), None, False),
        (NOT_EXISTS, (), None, True),
        (NOT_EXISTS, (), "x", False),
        (GREATER, ("8",), "16", True),
        (GREATER, ("8",), "8", False),
        (GREATER, ("-8",), "-7", True),
        (GREATER, ("8",), "many", False),
        (GREATER, ("many",), "8", False),
        (GREATER, ("8",), "1_6", False),
        (GREATER, ("8",), None, False),
        (GREATER, (), "8", False),
        (LESS, ("8",), "7", True),
        (LESS, ("8",), "10", False),
        (LESS, ("8",), "7.5", True),
        (LESS, ("8",), None, False),
    ],
)
def test_operators(operator: ConstraintOperator, values: tuple[str, ...], value: str | None, expected: bool) -> None:
    assert satisfied(Constraint(attribute="x", operator=operator, values=values), value) is expected


def test_a_nodes_id_and_name_are_attributes_and_labels_are_the_rest() -> None:
    node = NodeSpec(id="id-1", name="worker", labels=(("zone", "b"),))
    assert [attribute_of(node, name) for name in ("node.id", "node.name", "zone", "rack")] == [
        "id-1",
        "worker",
        "b",
        None,
    ]


def test_every_constraint_must_hold() -> None:
    node = NodeSpec(id="id-1", name="worker", labels=(("zone", "b"),))
    in_b = Constraint(attribute="zone", operator=EQUAL, values=("b",))
    with_ssd = Constraint(attribute="ssd", operator=EXISTS)
    assert matches(node, (in_b,))
    assert not matches(node, (in_b, with_ssd))
    assert matches(node, ())


@pytest.mark.parametrize(
    ("operator", "values", "words"),
    [
        (EQUAL, ("b",), "zone = b"),
        (IN, ("a", "b"), "zone in (a, b)"),
        (EXISTS, (), "zone exists"),
        (LESS, ("3",), "zone < 3"),
    ],
)
def test_constraints_read_as_they_are_written(
    operator: ConstraintOperator, values: tuple[str, ...], words: str
) -> None:
    assert describe(Constraint(attribute="zone", operator=operator, values=values)) == words


@pytest.mark.parametrize(
    ("attribute", "operator", "values", "expected"),
    [
        ("node.arch", ConstraintOperator.EQUAL, ("arm64",), True),
        ("node.kernel", ConstraintOperator.VERSION, (">= 5.15", "< 7"), True),
        ("node.kernel", ConstraintOperator.VERSION, (">= 5.15", "< 6"), False),
        ("node.kernel", ConstraintOperator.VERSION, (), False),
        ("node.driver", ConstraintOperator.EQUAL, ("process",), True),
        ("node.driver", ConstraintOperator.NOT_EQUAL, ("process",), False),
        ("node.driver", ConstraintOperator.NOT_IN, ("fake",), True),
        ("node.zone", ConstraintOperator.EXISTS, (), False),
        ("node.zone", ConstraintOperator.NOT_MATCHES, ("z.*",), True),
        ("node.rack", ConstraintOperator.MATCHES, ("r[0-9]+",), True),
        ("node.rack", ConstraintOperator.MATCHES, ("r",), False),
        ("node.rack", ConstraintOperator.MATCHES, ("(",), False),
        ("cores", ConstraintOperator.GREATER_EQUAL, ("8",), True),
        ("cores", ConstraintOperator.LESS_EQUAL, ("7.9",), False),
        ("node.datacenter", ConstraintOperator.IN, ("a", "dc1"), True),
    ],
)
def test_facts_of_a_node_and_the_newer_operators(
    attribute: str, operator: ConstraintOperator, values: tuple[str, ...], expected: bool
) -> None:
    spec = NodeSpec(
        id="n",
        name="n",
        arch="arm64",
        kernel="6.8.0",
        rack="r12",
        datacenter="dc1",
        drivers=("docker", "process"),
        labels=(("cores", "8"),),
    )
    assert matches(spec, (Constraint(attribute=attribute, operator=operator, values=values),)) is expected
