"""The mutants that are made and of what, what is left alone, and that a survivor's excuse still names a mutant."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

from tests.mutation.operators import mutants
from tests.mutation.runner import SAMPLED, TARGETS, _chosen, _put_in, parts_of_apply
from tests.mutation.survivors import SURVIVORS

ROOT = Path(__file__).resolve().parents[2]


def made(source: str) -> list[str]:
    return [f"{mutant.before} -> {mutant.after}" for mutant in mutants(ast.parse(textwrap.dedent(source)))]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", ["a < b -> a <= b", "a < b -> a >= b"]),
        ("x = a == b", ["a == b -> a != b"]),
        ("x = a is None", ["a is None -> a is not None"]),
        ("x = a in b", ["a in b -> a not in b"]),
        ("x = a and b", ["a and b -> a or b", "a and b -> b", "a and b -> a"]),
        ("x = a or b or c", ["a or b or c -> a and b and c", "a or b or c -> b or c", "a or b or c -> a or c",
                             "a or b or c -> a or b"]),
        ("x = a + b", ["a + b -> a - b"]),
        ("x += b", ["x += b -> x -= b", "x += b -> pass"]),
        ("x = not a", ["not a -> a"]),
        ("x = 7", ["7 -> 8"]),
        ("x = True", ["True -> False"]),
        ("x = 'node.lost'", ["'node.lost' -> 'Xnode.lost'"]),
        ("x = max(a, b)", ["max(a, b) -> min(a, b)"]),
        ("x = (a > b).any()", ["(a > b).any() -> (a > b).all()", "a > b -> a >= b", "a > b -> a <= b"]),
        ("if a:\n    f()", ["if a -> if not a", "f() -> pass"]),
        ("x = [a for a in b if c]", ["for a in b if c -> for a in b"]),
        ("a.b = c", ["a.b = c -> pass"]),
        ("def f():\n    return a", ["return a -> return None"]),
        ("def f():\n    return False", ["False -> True"]),
        ("raise E", ["raise E -> pass"]),
    ],
)  # fmt: skip
def test_every_operator_makes_its_mistakes(source: str, expected: list[str]) -> None:
    assert made(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "@dataclass(frozen=True)\nclass A:\n    b: int",
        "x = f'{a + 1} is too many'",
        "f = lambda: 'a sentence'",
        "_log.info('event', count=1)",
        "assert a < 3",
        "def f(x: dict[1, 2]) -> Literal[3]: g",
        "from a import b",
        "name_problem('namespace', a)",
        "__all__: Sequence[str] = ('a', 'b')",
        "class A:\n    __slots__ = ('a', 'b')",
    ],
)
def test_text_logs_annotations_and_assertions_are_left_alone(source: str) -> None:
    assert [row for row in made(source) if row != "g -> pass" and "name_problem" not in row] == []


def test_mutant_is_one_change_in_the_tree() -> None:
    source = "def f(a):\n    if a > 1:\n        return a + 2\n    return 0\n"
    changed = []
    for number in range(len(mutants(ast.parse(source)))):
        tree = ast.parse(source)
        mutants(tree)[number].apply()
        changed.append(ast.unparse(tree))
    assert len(set(changed)) == len(changed)
    keys = [mutant.key for mutant in mutants(ast.parse("f(False, False, 1 + 1)"))]
    assert len(set(keys)) == len(keys)
    assert ast.unparse(ast.parse(source)) not in changed


def test_whatever_apply_is_made_of_is_mutated(tmp_path: Path) -> None:
    for name in ("apply.py", "apply_wishes.py", "wishes.py"):
        (tmp_path / name).write_text("")
    assert parts_of_apply(tmp_path) == ["orchestrator.state.apply", "orchestrator.state.apply_wishes"]
    tree = ast.parse((ROOT / "orchestrator/state/apply.py").read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
    parts = {name for name in imported if name.startswith("apply_")}
    assert len(parts) > 10
    assert {f"orchestrator.state.{name}" for name in parts} <= set(TARGETS)


def test_modules_are_named_one_by_one_or_all_of_apply_together() -> None:
    assert _chosen(["apply"]) == parts_of_apply()
    assert _chosen(["all"]) == list(TARGETS)
    assert _chosen(["gangs"]) == ["orchestrator.scheduling.gangs"]
    assert not TARGETS.keys() & SAMPLED.keys()
    assert _chosen(["guard", "apply_plan"]) == ["orchestrator.replication.guard", "orchestrator.state.apply_plan"]


def test_tests_that_are_to_kill_a_mutant_are_there() -> None:
    assert all((ROOT / path).exists() for paths in (TARGETS | SAMPLED).values() for path in paths)


def test_a_changed_function_number_or_array_is_put_into_the_module_that_runs() -> None:
    text = (
        "import numpy as np\nLIMIT = 3\nKNOWN = np.zeros(2)\nKNOWN[1] = 5\nNAMES = frozenset(['a'])\n"
        "WORTH = {'b': 0}\nPARTS = {'f': len}\n"
        "def f(): return LIMIT + KNOWN[1] + 10 * ('a' in NAMES) + WORTH.get('b', 50)\n"
    )
    for change, expected in (
        ("<module>: 3 -> 4", 19),
        ("KNOWN[1] = 5 -> pass", 13),
        ("<module>: 'a' -> 'Xa'", 8),
        ("<module>: 'b' -> 'Xb'", 68),
        ("f: LIMIT + KNOWN[1] -> LIMIT - KNOWN[1]", 8),
        ("f: 50 -> 51", 18),
    ):
        live = types.ModuleType("mutated_in_a_test")
        live.__file__ = "nowhere.py"
        exec(text, live.__dict__)
        tree = ast.parse(text)
        (mutant,) = (one for one in mutants(tree) if one.key.endswith(change))
        sys.modules[live.__name__] = live
        try:
            _put_in(live, tree, mutant)
            assert live.f() == expected, change
        finally:
            del sys.modules[live.__name__]


@pytest.mark.parametrize("module", sorted(SURVIVORS))
def test_every_excuse_names_a_mutant_that_exists(module: str) -> None:
    path = ROOT / (module.replace(".", "/") + ".py")
    keys = {mutant.key for mutant in mutants(ast.parse(path.read_text()))}
    assert module in TARGETS | SAMPLED
    assert set(SURVIVORS[module]) <= keys
    assert all(reason.strip() for reason in SURVIVORS[module].values())


@pytest.mark.soak
def test_a_real_mistake_is_caught_and_no_file_is_changed() -> None:
    path = ROOT / "orchestrator/state/apply_variables.py"
    before = path.read_bytes()
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.mutation.runner", "--module", "apply_variables", "--only", "version + 1",
            "--tests", "tests/unit/state/test_effects.py",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert "2 of    2 mutants     2 killed  100.0 %" in done.stdout, done.stdout + done.stderr
    assert path.read_bytes() == before
