"""The small parts that a job file is made of: text, numbers, closed sets of words, and constraints.

Owns: their validators and how JSON Schema shows them. Leaves to others: the keys (``models``, ``placement``). The rule:
a validator raises ValueError with what was expected.
"""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic_core import core_schema

from orchestrator.contract import model as nouns
from orchestrator.contract.devices import canonical
from orchestrator.jobfile import limits, units
from orchestrator.jobfile.check import name_problem, near_miss
from orchestrator.jobfile.tree import text_of


def _text(value: object) -> str:
    if value is None or isinstance(value, (dict, list)):
        raise ValueError(f"expected text, got {units.shown(value)}" + ('; write "" for empty text' * (value is None)))
    return text_of(value)


def _name(value: object) -> str:
    name = _text(value)
    problem = name_problem(name)
    if problem:
        raise ValueError(problem)
    return name


def whole(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, got {units.shown(value)}")
    if abs(value) >= 2**53:
        raise ValueError(f"expected a whole number of a sensible size, got {units.shown(value)}")
    return int(value)


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {units.shown(value)}")
    return value


def _words(value: object) -> object:
    """A command: a list of words, or one line that is split as a shell would (but no shell runs it)."""
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise ValueError(f"cannot split this into words ({str(error).lower()}): write a list") from None
    if not isinstance(value, list):
        raise ValueError(f"expected a list of words or one line of text, got {units.shown(value)}")
    return value


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def one_of(value: object, known: dict[str, Any]) -> Any:
    """What a word of a closed set means; raises ValueError with the near miss."""
    word = text_of(value) if not isinstance(value, (dict, list)) else ""
    if word in known:
        return known[word]
    hint = near_miss(word, known) if word else ""
    raise ValueError(f"expected one of {', '.join(known)}; got {units.shown(value)}{hint}")


JOB_TYPES = {"service": nouns.JobType.SERVICE, "batch": nouns.JobType.BATCH, "system": nouns.JobType.SYSTEM}
LINKS = {"any": nouns.Link.ANY, "island": nouns.Link.ISLAND, "numa": nouns.Link.NUMA}
GANG_DOMAINS = {domain.name.lower(): domain for domain in nouns.GangDomain}
GANG_FAILURES = {failure.name.lower(): failure for failure in nouns.GangFailure}
DISCONNECTS = {
    "replace": nouns.OnDisconnect.REPLACE,
    "stop": nouns.OnDisconnect.STOP,
    "keep": nouns.OnDisconnect.KEEP,
}
MODES = {"fail": nouns.RestartMode.FAIL, "delay": nouns.RestartMode.DELAY}
PROTOCOLS = {"tcp": nouns.Protocol.TCP, "udp": nouns.Protocol.UDP}
OPERATORS = {
    "=": nouns.ConstraintOperator.EQUAL,
    "!=": nouns.ConstraintOperator.NOT_EQUAL,
    "in": nouns.ConstraintOperator.IN,
    "not in": nouns.ConstraintOperator.NOT_IN,
    "exists": nouns.ConstraintOperator.EXISTS,
    "not exists": nouns.ConstraintOperator.NOT_EXISTS,
    ">": nouns.ConstraintOperator.GREATER,
    "<": nouns.ConstraintOperator.LESS,
    ">=": nouns.ConstraintOperator.GREATER_EQUAL,
    "<=": nouns.ConstraintOperator.LESS_EQUAL,
    "version": nouns.ConstraintOperator.VERSION,
    "matches": nouns.ConstraintOperator.MATCHES,
    "not matches": nouns.ConstraintOperator.NOT_MATCHES,
}


class Or:
    """In the JSON Schema: ``short``, or what the annotated type says."""

    def __init__(self, short: dict[str, Any]) -> None:
        self._short = short

    def __get_pydantic_json_schema__(
        self, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [self._short, handler(core)]}


def word(known: dict[str, Any]) -> tuple[PlainValidator, WithJsonSchema]:
    schema = WithJsonSchema({"type": "string", "enum": list(known)})
    return PlainValidator(lambda value: one_of(value, known)), schema


JobType = Annotated[nouns.JobType, *word(JOB_TYPES)]
OnDisconnect = Annotated[nouns.OnDisconnect, *word(DISCONNECTS)]
RestartMode = Annotated[nouns.RestartMode, *word(MODES)]
Link = Annotated[nouns.Link, *word(LINKS)]
GangDomain = Annotated[nouns.GangDomain, *word(GANG_DOMAINS)]
GangFailure = Annotated[nouns.GangFailure, *word(GANG_FAILURES)]
Protocol = Annotated[nouns.Protocol, *word(PROTOCOLS)]
Operator = Annotated[nouns.ConstraintOperator, *word(OPERATORS)]

SCALAR = {"type": ["string", "number", "boolean"]}
QUANTITY = {"type": ["string", "number"]}
Text = Annotated[str, BeforeValidator(_text), WithJsonSchema(SCALAR)]
Name = Annotated[str, BeforeValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{limits.NAME.pattern}$"})]
Whole = Annotated[int, BeforeValidator(whole)]
Truth = Annotated[bool, BeforeValidator(_truth)]
_WORDS_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": SCALAR}]}
Words = Annotated[list[Text], BeforeValidator(_words), WithJsonSchema(_WORDS_SCHEMA)]
TextList = Annotated[list[Text], BeforeValidator(_listed), WithJsonSchema(_WORDS_SCHEMA)]
TextMap = Annotated[dict[Text, Text], WithJsonSchema({"type": "object", "additionalProperties": SCALAR})]
Amounts = Annotated[dict[Text, Whole], WithJsonSchema({"type": "object", "additionalProperties": {"type": "integer"}})]
Cpu = Annotated[int, BeforeValidator(units.parse_cpu), WithJsonSchema({**QUANTITY, "examples": ["500m", 2, 0.5]})]
Memory = Annotated[int, BeforeValidator(units.parse_memory), WithJsonSchema({**QUANTITY, "examples": ["256Mi"]})]
Share = Annotated[int, BeforeValidator(units.parse_share), WithJsonSchema({**QUANTITY, "examples": [0.5, "500m"]})]
Duration = Annotated[int, BeforeValidator(units.parse_duration), WithJsonSchema({**QUANTITY, "examples": ["30s"]})]


def _version(value: object) -> str:
    return canonical(_text(value).strip())


_VERSION_SCHEMA = {"type": ["string", "number"], "examples": [">= 8.0"]}
Version = Annotated[str, BeforeValidator(_version), WithJsonSchema(_VERSION_SCHEMA)]


class Keys(BaseModel):
    """Unknown keys are refused: a typing mistake must not silently change what runs."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False)


# ---------------------------------------------------------------------------- constraints


_CONSTRAINT = re.compile(
    r"\s*(\S+?)(?:\s*(==|!=|>=|<=|=|>|<)|\s+(not in|in|not exists|exists|not matches|matches|version)\b)\s*(.*?)\s*"
)
_CONSTRAINT_EXPECTED = "expected a constraint such as 'zone = eu', 'disk in [ssd, nvme]' or 'gpu exists'"


def _constraint(value: object) -> object:
    """``zone = eu``, ``disk in [ssd, nvme]``, ``gpu exists``, or a mapping."""
    if isinstance(value, dict):
        return value
    match = _CONSTRAINT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_CONSTRAINT_EXPECTED}, got {units.shown(value)}")
    attribute, operator, rest = match[1], match[2] or match[3], match[4]
    operator = "=" if operator == "==" else operator
    if operator == "version":
        return {"attribute": attribute, "operator": operator, "values": [part.strip() for part in rest.split(",")]}
    values = _values(rest, many=operator in ("in", "not in"))
    if values is None or (operator.endswith("exists") and values):
        raise ValueError(f"{_CONSTRAINT_EXPECTED}, got {units.shown(value)}")
    return {"attribute": attribute, "operator": operator, "values": values}


def _values(text: str, *, many: bool) -> list[str] | None:
    if many:
        inner = re.fullmatch(r"\[(.*)\]|\((.*)\)", text)
        if inner is None:
            return None
        text = inner[1] if inner[1] is not None else inner[2]
        values = [part.strip().strip("'\"") for part in text.split(",")]
        return values if all(values) else None
    return [text.strip("'\"")] if text else []


class ConstraintKeys(Keys):
    attribute: Text = Field(description=limits.ATTRIBUTE_RULE)
    operator: Operator = Field(default_factory=lambda: nouns.ConstraintOperator.EQUAL)
    value: TextList = Field(default=[], description="One value, or a list for 'in' and 'not in'.")
    values: TextList = Field(default=[], description="The same as 'value'.")

    def build(self) -> nouns.Constraint:
        return nouns.Constraint(
            attribute=self.attribute, operator=self.operator, values=tuple(self.value + self.values)
        )


_CONSTRAINT_SHORT = {"type": "string", "examples": ["zone = eu"]}
Constrained = Annotated[ConstraintKeys, BeforeValidator(_constraint), Or(_CONSTRAINT_SHORT)]
