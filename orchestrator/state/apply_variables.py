"""What commands about variables do. The rule: a failed expectation is an answer (``hit`` False), not an error."""

from __future__ import annotations

from orchestrator.contract.model import Variable
from orchestrator.state.apply_namespaces import unknown_namespace
from orchestrator.state.check import name_problem, variable_problem
from orchestrator.state.commands import Expectation, Outcome, VariableAnswer, WriteVariable
from orchestrator.state.state import State


def write(state: State, command: WriteVariable) -> Outcome:
    key = (command.namespace, command.name)
    present = state.variables.get(key)
    if present is None:  # else its name was good when it was written first
        problem = name_problem("namespace", command.namespace) or variable_problem(command.name)
        if problem:
            return state.reject("INVALID", problem)
    limit = state.limits.variable_bytes
    if command.value is not None and _is_longer(command.value, limit):
        return state.reject("INVALID", f"the value of {command.name!r} is larger than {limit} bytes: store a reference")
    if present is None and command.value is not None:
        refusal = unknown_namespace(state, command.namespace)
        if refusal is not None:
            return refusal
    if not _holds(command, present):
        return state.answer(VariableAnswer(variable=present, hit=False))
    if command.value is None:
        if present is not None:
            del state.variables[key]
            state.events.emit("variable.deleted", namespace=command.namespace, message=command.name)
        return state.answer(VariableAnswer(variable=None, hit=True))
    written = Variable(
        namespace=command.namespace,
        name=command.name,
        value=command.value,
        version=present.version + 1 if present else 1,
        create_index=present.create_index if present else state.index,
        modify_index=state.index,
    )
    state.variables[key] = written
    state.events.emit("variable.changed", namespace=command.namespace, message=command.name)
    return state.answer(VariableAnswer(variable=written, hit=True))


def _is_longer(value: str, limit: int) -> bool:
    """In bytes of UTF-8; a character has at most four."""
    return len(value) * 4 > limit and len(value.encode("utf-8", "surrogatepass")) > limit


def _holds(command: WriteVariable, present: Variable | None) -> bool:
    if command.expectation is Expectation.ABSENT:
        return present is None
    if command.expectation is Expectation.VALUE:
        return present is not None and present.value == command.expected
    return True
