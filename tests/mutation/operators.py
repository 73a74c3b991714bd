"""``mutants``: every small mistake that we know how to make in a module, one at a time.

Owns: the operators, and what is left alone. Leaves running tests to ``runner``. The one rule: a mutant changes what the
code does, never what it says to people: text (f-strings, strings with blanks), log calls, annotations and assertions
stay as they are, because no test should promise wording. So do a dataclass's flags and the names of slots, which only
forbid mistakes.

Operators (Offutt et al., An Experimental Determination of Sufficient Mutant Operators, TOSEM 1996, and what reviewers
miss): comparisons move by one or turn round; ``and`` and ``or`` change places or lose an operand; arithmetic and bit
operators are swapped, as are min and max, any and all; numbers grow by one, truth values flip, names change; conditions
are negated; ``not`` and ``-`` are dropped; a return gives None (where it gave something true); a statement with an
effect is left out.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_LOGGERS = {"_log", "log", "logger"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. ``apply`` makes it in the tree, for good; ``key`` finds it again while the code around it moves."""

    line: int
    function: str
    operator: str
    before: str
    after: str
    apply: Callable[[], None]
    nth: int = 1  # of those that read alike in the function

    @property
    def key(self) -> str:
        return f"{self.function}: {self.before} -> {self.after}" + (f" ({self.nth})" if self.nth > 1 else "")


def mutants(tree: ast.Module) -> list[Mutant]:
    """All mutants of a module, in the order of its lines. ``tree`` is not changed until one is applied."""
    seen: Counter[str] = Counter()
    found = []
    for mutant in _walk(tree, "<module>"):
        seen[mutant.key] += 1
        found.append(replace(mutant, nth=seen[mutant.key]))
    return found


def _walk(parent: ast.AST, function: str) -> Iterator[Mutant]:
    for name, value in ast.iter_fields(parent):
        if name in ("annotation", "returns", "type_comment", "ctx"):
            continue
        if isinstance(value, ast.AST):
            yield from _visit(value, parent, function, _putter(parent, name))
        elif isinstance(value, list):
            for place, node in enumerate(value):
                if isinstance(node, ast.AST):
                    yield from _visit(node, parent, function, _item_putter(value, place))


def _putter(parent: ast.AST, name: str) -> Callable[[ast.AST], None]:
    return lambda node: setattr(parent, name, node)


def _item_putter(items: list[ast.AST], place: int) -> Callable[[ast.AST], None]:
    return lambda node: items.__setitem__(place, node)


def _visit(node: ast.AST, parent: ast.AST, function: str, put: Callable[[ast.AST], None]) -> Iterator[Mutant]:
    if _left_alone(node):
        return
    inside = function
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        inside = node.name if function == "<module>" else f"{function}.{node.name}"
    elif not (isinstance(node, ast.Constant) and _is_label(node, parent)):
        for operator, changed in _changes(node):
            ast.copy_location(changed, node)
            ast.fix_missing_locations(changed)
            yield Mutant(
                _line(node), function, operator, _source(node), _source(changed),
                lambda changed=changed: put(changed),  # type: ignore[misc]  # mypy cannot infer a lambda's default
            )  # fmt: skip
    yield from _walk(node, inside)


def _left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert | ast.AnnAssign) and not (
        isinstance(node, ast.AnnAssign) and node.value is not None
    ):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring
    if isinstance(node, ast.Assign) and [one.id for one in node.targets if isinstance(one, ast.Name)] == ["__slots__"]:
        return True  # it only forbids mistakes, and belongs to a class that is made already
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "__all__":
        return True  # nobody imports everything
    call = node.value if isinstance(node, ast.Expr) else node
    return isinstance(call, ast.Call) and (
        (
            isinstance(call.func, ast.Attribute)
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id in _LOGGERS
        )
        or (isinstance(call.func, ast.Name) and call.func.id in ("assert_never", "NewType", "TypeVar", "dataclass"))
        or (isinstance(call.func, ast.Attribute) and call.func.attr == "get_logger")
    )


def _is_label(node: ast.Constant, parent: ast.AST) -> bool:
    """What a ``..._problem`` function calls the thing that it judges: text for people."""
    return (
        isinstance(node.value, str)
        and isinstance(parent, ast.Call)
        and isinstance(parent.func, ast.Name)
        and parent.func.id.endswith("_problem")
    )


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare():
            for place, old in enumerate(node.ops):
                for other in _COMPARISONS[type(old)]:
                    changed = copy.deepcopy(node)
                    changed.ops[place] = other()
                    yield "comparison", changed
        case ast.BoolOp():
            swapped = copy.deepcopy(node)
            swapped.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield "boolean", swapped
            for place in range(len(node.values)):
                fewer = copy.deepcopy(node)
                del fewer.values[place]
                yield "operand", fewer.values[0] if len(fewer.values) == 1 else fewer
        case ast.BinOp() if type(node.op) in _OPERATORS:
            changed_op = copy.deepcopy(node)
            changed_op.op = _OPERATORS[type(node.op)]()
            yield "arithmetic", changed_op
        case ast.AugAssign() if type(node.op) in _OPERATORS:
            other_op = copy.deepcopy(node)
            other_op.op = _OPERATORS[type(node.op)]()
            yield "arithmetic", other_op
            yield "deletion", ast.Pass()
        case ast.UnaryOp():
            yield "unary", copy.deepcopy(node.operand)
        case ast.Constant(value=bool(value)):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield "constant", ast.Constant(value + 1)
        case ast.Constant(value=str(value)) if " " not in value:
            yield "constant", ast.Constant("X" + value)
        case ast.Call(func=ast.Name(id=name)) if name in _NAMES:
            call = copy.deepcopy(node)
            call.func = ast.Name(_NAMES[name], ast.Load())
            yield "function", call
        case ast.Call(func=ast.Attribute(attr=name)) if name in _NAMES:
            method = copy.deepcopy(node)
            assert isinstance(method.func, ast.Attribute)
            method.func.attr = _NAMES[name]
            yield "function", method
        case ast.If() | ast.While() | ast.IfExp():
            if not isinstance(node.test, ast.Compare | ast.UnaryOp | ast.Constant) or _chained(node.test):
                negated = copy.deepcopy(node)
                negated.test = ast.UnaryOp(ast.Not(), negated.test)
                yield "negation", negated
        case ast.comprehension():
            for place in range(len(node.ifs)):
                all_of_them = copy.deepcopy(node)
                del all_of_them.ifs[place]
                yield "filter", all_of_them
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and not value.value):
            yield "return", ast.Return(ast.Constant(None))
        case ast.Expr() | ast.Raise() | ast.Delete() | ast.Continue() | ast.Break():
            yield "deletion", ast.Pass()
        case ast.Assign() if not all(isinstance(target, ast.Name) for target in node.targets):
            yield "deletion", ast.Pass()


def _chained(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and len(test.ops) > 1


def _line(node: ast.AST) -> int:
    """Where it begins; a loop inside of an expression has no line of its own."""
    place = node.target if isinstance(node, ast.comprehension) else node
    return int(getattr(place, "lineno", 0))


def _source(node: ast.AST) -> str:
    """One line that shows the node; of a compound statement its head."""
    if isinstance(node, ast.If | ast.While):
        return f"{'if' if isinstance(node, ast.If) else 'while'} {ast.unparse(node.test)}"
    if isinstance(node, ast.comprehension):
        return ast.unparse(node).strip()
    return " ".join(ast.unparse(node).split())
