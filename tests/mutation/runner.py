"""``scripts/mutation``: makes one small mistake at a time in a module, and sees whether a test fails.

Owns: running the tests against every mutant of ``operators``, and the account of it. Leaves to ``survivors`` why some
mutants cannot be killed. The one rule: no file is ever changed.

Pytest starts once and collects; a first, traced run notes which test touches which line of the module. Then every
mutant gets a forked process, which compiles the changed module, puts the new code into the functions that are already
imported, and runs the tests that touch the line until one fails: those that killed in the same function before, then
the fastest. So a mutant costs some tens of milliseconds.

Why not mutmut or cosmic-ray: mutmut 3.3.1 stops with "Unable to force test failures" here, since our own pytest plugin
has imported the installed package before mutmut's changed copy is on the path. cosmic-ray edits the files in place,
which nobody may do to a tree that others test, and starts pytest anew for each mutant.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import datetime
import gc
import importlib
import inspect
import json
import os
import pickle
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.mutation.operators import Mutant, mutants
from tests.mutation.survivors import SURVIVORS

ROOT = Path(__file__).resolve().parents[2]
_LOG_TESTS = ("tests/unit/replication", "tests/sim/test_random_faults.py")
_STATE_TESTS = ("tests/unit/state", "tests/scenarios", "tests/properties/test_apply.py")
_MORE_STATE_TESTS = {  # slower ones, in which also the leader's rounds take part
    "apply_batch": ("tests/properties/test_periodic.py",),
    "apply_gangs": ("tests/properties/test_gangs.py",),
    "apply_moves": ("tests/properties/test_rebalance.py",),
    "apply_observed": ("tests/properties/test_observed.py",),
    "apply_evictions": ("tests/properties/test_priorities.py",),
    "apply_rollouts": ("tests/properties/test_rollouts.py",),
}


def parts_of_apply(folder: Path = ROOT / "orchestrator/state") -> list[str]:
    """Modules of ``orchestrator.state`` that are named after apply, so that a new one is in by itself."""
    return [f"orchestrator.state.{path.stem}" for path in sorted(folder.glob("apply*.py"))]


_UNIT = "tests/unit"
_CHECKER_TESTS = ("tests/unit/ops/test_linearizability.py", "tests/unit/ops/test_history.py")
_BUDGET_TESTS = ("tests/unit/state/test_disruption.py", "tests/unit/reconcile/test_budgets.py")
_HOLDING_TESTS = ("tests/unit/state/test_holding.py", "tests/unit/state/test_steering.py")
_ROLLOUT_TESTS = ("tests/properties/test_canaries.py", "tests/properties/test_rollouts.py")
_GANG_TESTS = (
    *(f"tests/unit/scheduling/test_{what}.py" for what in ("gangs", "gang_domains")),
    "tests/properties/test_gangs.py",
)
_QUOTA_TESTS = ("tests/unit/state/test_namespaces.py", "tests/unit/reconcile/test_quota.py")

TARGETS: dict[str, tuple[str, ...]] = {
    "orchestrator.replication.guard": _LOG_TESTS,
    **{module: (*_STATE_TESTS, *_MORE_STATE_TESTS.get(module.rpartition(".")[2], ())) for module in parts_of_apply()},
    # Where else a silent wrong answer would hurt most.
    "orchestrator.ops.linearizability": _CHECKER_TESTS,
    "orchestrator.ops.linear_search": _CHECKER_TESTS,
    "orchestrator.state.disruption": (*_BUDGET_TESTS, "tests/unit/state/test_evictions.py"),
    "orchestrator.state.quota": (*_QUOTA_TESTS, "tests/scenarios"),
    "orchestrator.reconcile.quota": _QUOTA_TESTS,
    # What apply calls.
    "orchestrator.state.batch": (f"{_UNIT}/state/test_templates.py", f"{_UNIT}/state/test_batch.py"),
    "orchestrator.state.check": (f"{_UNIT}/state/test_check.py",),
    "orchestrator.state.dependencies": (f"{_UNIT}/state/test_order.py",),
    "orchestrator.state.failures": (f"{_UNIT}/state/test_fates.py",),
    "orchestrator.state.housekeeping": tuple(
        f"{_UNIT}/state/test_{what}.py" for what in ("housekeeping", "bounds", "versions")
    ),
    "orchestrator.state.images": (f"{_UNIT}/state/test_images.py",),
    "orchestrator.state.ledger": (f"{_UNIT}/state/test_ledger.py",),
    "orchestrator.state.ordinals": (f"{_UNIT}/state/test_ordinals.py",),
    "orchestrator.state.peers": (f"{_UNIT}/state/test_peers.py",),
    "orchestrator.state.renewal": (f"{_UNIT}/state/test_renewal.py",),
    "orchestrator.state.resize": (f"{_UNIT}/state/test_resize.py",),
    "orchestrator.state.rollouts": (f"{_UNIT}/state/test_rollouts.py", f"{_UNIT}/state/test_steering.py"),
    "orchestrator.state.usage": (*_QUOTA_TESTS, f"{_UNIT}/state/test_usage.py"),
    "orchestrator.state.versions": (f"{_UNIT}/state/test_versions.py",),
    # What nobody else would notice: who is placed at all, and where inside a node.
    "orchestrator.reconcile.drains": (f"{_UNIT}/reconcile/test_drains.py",),
    "orchestrator.reconcile.gaps": (f"{_UNIT}/reconcile/test_gaps.py", f"{_UNIT}/reconcile/test_rounds.py"),
    "orchestrator.scheduling.ports": (f"{_UNIT}/scheduling/test_ports.py",),
    "orchestrator.state.holding": _HOLDING_TESTS,
    "orchestrator.reconcile.seats": ("tests/unit/reconcile/test_seats.py", "tests/unit/reconcile/test_rounds.py"),
    "orchestrator.reconcile.rollouts": ("tests/unit/reconcile/test_rollouts.py", *_ROLLOUT_TESTS),
    "orchestrator.replication.journal": (
        *(f"tests/unit/replication/test_{what}.py" for what in ("journal", "journal_damage", "ahead_of_flush")),
        "tests/properties/test_journal_model.py",
    ),
    "agent.clearing": (f"{_UNIT}/agent/test_clearing.py",),
    "agent.outbox": (f"{_UNIT}/agent/test_outbox.py",),
    "agent.reconcile": tuple(
        f"tests/unit/agent/test_{what}.py" for what in ("reconcile", "groups", "timeouts", "health")
    ),
}
"""Module -> the tests that promise something about it."""
SAMPLED: dict[str, tuple[str, ...]] = {
    "orchestrator.state.allocations": tuple(f"{_UNIT}/state/test_{what}.py" for what in ("allocations", "ordinals")),
    "orchestrator.state.state": (
        *(f"{_UNIT}/state/test_{what}.py" for what in ("state", "rollouts", "resize", "ordinals", "effects", "nodes")),
    ),
    "orchestrator.scheduling.preempt_gangs": tuple(
        f"{_UNIT}/scheduling/test_{what}.py" for what in ("preempt_gangs", "preempt_rules", "gangs")
    ),
    "orchestrator.scheduling.device_sets": (f"{_UNIT}/scheduling/test_device_sets.py",),
    "orchestrator.scheduling.gang_holds": (*_GANG_TESTS, f"{_UNIT}/scheduling/test_gang_holds.py"),
    "orchestrator.scheduling.gangs": _GANG_TESTS,
    "orchestrator.scheduling.neighbours": (*_GANG_TESTS, "tests/unit/scheduling/test_neighbours.py"),
    "orchestrator.scheduling.preempt": tuple(
        f"{_UNIT}/scheduling/test_{what}.py" for what in ("preempt", "preempt_rules", "gangs")
    ),
    "agent.supervisor": ("tests/unit/agent/test_supervisor.py",),
}
"""The same of modules that are looked at by name only: not all that survives there has its reason yet."""
_TESTS_OF = TARGETS | SAMPLED
NEEDED_PERCENT = 90
_GRACE_S = 2.0  # of CPU, on top of ten times what a test took: an endless loop is a killed mutant
_WAIT_S = 120.0  # whatever waits so long waits for ever
_STARVED = 60  # times what a test took of CPU, on top of that: on a busy machine one that gets no CPU waits, too
_EXAMPLES = 10  # of each generated test
_SPARE_BYTES = 4 * 1024**3
_PLAIN = (int, str, float, tuple, frozenset, re.Pattern, datetime.datetime)
"""What a module's constants are that a mutant can change."""

KILLED, OUT_OF_TIME, SURVIVED, UNTESTED = "killed", "out of time", "survived", "untested"


class BrokenTestsError(Exception):
    """There is nothing to learn from tests that fail without any mutant."""


@dataclass(slots=True)
class Account:
    """Of one module. ``untested`` mutants are on lines that no test touches: they survive, too."""

    module: str
    of: int = 0  # mutants there are; fewer are tried of a sample
    mutants: int = 0
    killed: int = 0
    out_of_time: int = 0  # counted as killed
    survivors: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def percent(self) -> float:
        return round(100 * self.killed / self.mutants, 1) if self.mutants else 100.0


@dataclass(slots=True)
class Touch:
    """What one test does to one module."""

    lines: set[int]
    seconds: float  # of CPU


class Plugin:
    """Takes the place of pytest's own loop over the collected tests."""

    def __init__(self, modules: list[str], *, only: tuple[str, ...], tests: tuple[str, ...], sample: int) -> None:
        self._modules = modules
        self._tests = tests
        self._only = only
        self._sample = sample
        self.accounts: list[Account] = []

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings  # not before pytest, which wants to rewrite its assertions

        # The same examples for every mutant; what fails need not be made small.
        settings.register_profile(
            "mutation", settings.get_profile("raftsman"), derandomize=True, database=None,
            phases=(Phase.explicit, Phase.generate),
        )  # fmt: skip
        settings.load_profile("mutation")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        from hypothesis import settings

        for item in items:
            test = getattr(item, "obj", None)
            chosen = getattr(test, "_hypothesis_internal_use_settings", None)
            if chosen is not None:
                few = settings(chosen, max_examples=min(chosen.max_examples, _EXAMPLES))
                setattr(test, "_hypothesis_internal_use_settings", few)  # noqa: B010 - there is no public way

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            _show("tests could not be collected: run pytest")
            return True
        by_id = {item.nodeid: item for item in session.items}
        _show(f"tracing {len(by_id)} tests")
        try:
            seen = _traced([_path(module) for module in self._modules], session.items)
        except BrokenTestsError as error:
            _show(str(error))
            return True
        gc.collect()
        gc.freeze()  # what was made so far need not be looked at in every fork
        for module in self._modules:
            self.accounts.append(self._judge(module, by_id, seen[_path(module)]))
        return True

    def _judge(self, module: str, by_id: dict[str, pytest.Item], seen: dict[str, Touch]) -> Account:
        began = time.monotonic()
        path = _path(module)
        tree = ast.parse(path.read_text())
        live = importlib.import_module(module)
        touched = {
            name: touch.lines for name, touch in seen.items() if name.startswith(self._tests or _TESTS_OF[module])
        }
        costs = {name: touch.seconds for name, touch in seen.items()}
        found = [mutant for mutant in mutants(tree) if _has_any(mutant.key, self._only)]
        account = Account(module, of=len(found))
        found = _sampled(found, self._sample, module)
        killers: defaultdict[str, Counter[str]] = defaultdict(Counter)  # by function: who kills there
        _show(f"{module}: {len(found)} of {account.of} mutants, {len(touched)} tests touch it")
        for mutant in found:
            killed_here = killers[mutant.function]
            names = sorted(
                (name for name, lines in touched.items() if mutant.line in lines),
                key=lambda name: (-killed_here[name], costs[name]),
            )
            verdict = UNTESTED
            if names:
                limits_s = {name: _GRACE_S + 10 * costs[name] for name in names}
                verdict, killer = _try(live, tree, mutant, [(by_id[name], limits_s[name]) for name in names])
                if verdict == KILLED:
                    killed_here[names[killer]] += 1
            account.mutants += 1
            if verdict in (KILLED, OUT_OF_TIME):
                account.killed += 1
                account.out_of_time += verdict == OUT_OF_TIME
            else:
                reason = SURVIVORS.get(module, {}).get(mutant.key, "")
                account.survivors.append(
                    {
                        "line": mutant.line, "operator": mutant.operator, "mutant": mutant.key, "verdict": verdict,
                        "tests": len(names), "reason": reason,
                    }
                )  # fmt: skip
                _show(f"  {path.relative_to(ROOT)}:{mutant.line} {verdict}: {mutant.key}" + (
                    f" ({reason})" if reason else ""
                ))  # fmt: skip
        account.seconds = round(time.monotonic() - began, 1)
        return account


def _statements(tree: ast.AST) -> list[tuple[int, int]]:
    """First and last line of each statement's own text (of a compound one: its head), the longest first."""
    spans = []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else (node.end_lineno or node.lineno)
            spans.append((node.lineno, max(node.lineno, last)))
    return sorted(spans, key=lambda span: span[0] - span[1])


def _sampled(found: list[Mutant], size: int, module: str) -> list[Mutant]:
    """``size`` of them at random, in their order; all where that is 0 or more than there are. Equal in every run."""
    if not 0 < size < len(found):
        return found
    places = sorted(random.Random(module).sample(range(len(found)), size))
    return [found[place] for place in places]


def _has_any(key: str, texts: tuple[str, ...]) -> bool:
    return not texts or any(text in key for text in texts)


def _path(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def _traced(paths: list[Path], items: list[pytest.Item]) -> dict[Path, dict[str, Touch]]:
    """By file and test: the lines of the file that the test touches. Measured in a forked process."""

    def work() -> object:
        wanted = {str(path): set[int]() for path in paths}

        def trace(frame: types.FrameType, event: str, _arg: object) -> Any:
            lines = wanted.get(frame.f_code.co_filename)
            if lines is None:
                return None
            lines.add(frame.f_lineno)
            return trace

        found: dict[Path, dict[str, Touch]] = {path: {} for path in paths}
        left_out: list[str] = []
        for item in items:
            for lines in wanted.values():
                lines.clear()
            began = time.process_time()
            why = _fails(item)
            if why:
                return f"{item.nodeid} fails without any mutant: {why}"
            seconds = time.process_time() - began
            threading.settrace(trace)
            sys.settrace(trace)
            try:
                if _fails(item):  # as a test of who holds which object does: a tracer holds frames
                    left_out.append(item.nodeid)
                    continue
            finally:
                sys.settrace(None)
                threading.settrace(None)
            for path in paths:
                if wanted[str(path)]:
                    found[path][item.nodeid] = Touch(set(wanted[str(path)]), seconds)
        return found, left_out

    done = _in_child(work)
    if isinstance(done, str):
        raise BrokenTestsError(done)
    found, left_out = done
    for name in left_out:
        _show(f"left out, since it fails only when it is traced: {name}")
    for path, tests in found.items():
        tree = ast.parse(path.read_text())
        statement = {line: span for span in _statements(tree) for line in range(span[0], span[1] + 1)}
        importing = _import_lines(tree)
        for touch in tests.values():
            spans = [statement[line] for line in touch.lines if line in statement]
            # A statement over several lines is touched as a whole; what runs at import matters to every test.
            touch.lines = importing.union(*(range(first, last + 1) for first, last in spans))
    return found  # type: ignore[no-any-return]  # it went through a pipe


def _import_lines(tree: ast.Module) -> set[int]:
    """Lines that run when the module is imported: also the fields of its classes, and the defaults of arguments."""
    lines: set[int] = set()
    todo: list[ast.stmt] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            lines.update(range(node.lineno, node.body[0].lineno))
            if isinstance(node, ast.ClassDef):
                todo.extend(node.body)
        else:
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def _in_child(work: Callable[[], object]) -> Any:
    """The value of ``work``, called in a forked process."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _be_quiet()
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(work(), pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        raise BrokenTestsError("the traced run of the tests died")
    return pickle.loads(data)  # noqa: S301 - from our own fork


def _try(
    live: types.ModuleType, tree: ast.Module, mutant: Mutant, items: list[tuple[pytest.Item, float]]
) -> tuple[str, int]:
    """``items``: the tests to run, with the seconds of CPU that each may take. Returns also the place of the last."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _be_quiet()
        for number in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, signal.SIG_DFL)
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        resource.setrlimit(resource.RLIMIT_AS, (used + _SPARE_BYTES, used + _SPARE_BYTES))
        failed = False
        try:
            _put_in(live, tree, mutant)
            for place, (item, limit_s) in enumerate(items):
                os.write(write, place.to_bytes(4, "big"))
                signal.setitimer(signal.ITIMER_REAL, _WAIT_S + _STARVED * limit_s / 10)
                signal.setitimer(signal.ITIMER_PROF, limit_s)
                failed = bool(_fails(item))
                if failed:
                    break
        except BaseException:  # also what a test must not swallow: SystemExit, KeyboardInterrupt
            failed = True
        os._exit(1 if failed else 0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        last = int.from_bytes(pipe.read()[-4:], "big")
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return (OUT_OF_TIME if os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGPROF) else KILLED), last
    return (KILLED if os.WEXITSTATUS(status) else SURVIVED), last


class _Ear:
    """Hears how a test went."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(str(report.longrepr))


def _fails(item: pytest.Item) -> str:
    """Run one test with all that belongs to it; why it failed, or ""."""
    ear = _Ear()
    item.config.pluginmanager.register(ear)
    try:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    finally:
        item.config.pluginmanager.unregister(ear)
    return "".join(ear.failed)


def _be_quiet() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _put_in(live: types.ModuleType, tree: ast.Module, mutant: Mutant) -> None:
    """Change the imported module: the code and defaults of its functions, and its constants, wherever imported.

    ``mutant`` is one of ``tree``, which is changed, too: that is for a forked process.
    """
    mutant.apply()
    changed = types.ModuleType(live.__name__)
    changed.__file__ = live.__file__
    exec(compile(tree, str(live.__file__), "exec"), changed.__dict__)
    new = dict(_functions(changed))
    for name, function in _functions(live):
        twin = new[name]
        function.__code__, function.__defaults__ = twin.__code__, twin.__defaults__
        function.__kwdefaults__ = twin.__kwdefaults__
    for name, old in list(vars(live).items()):
        value = vars(changed).get(name)
        if _is_other(old, value, live.__name__):
            for module in list(sys.modules.values()):
                if vars(module).get(name) is old:
                    setattr(module, name, value)


def _is_other(old: object, new: Any, module: str) -> bool:
    """Whether a module's constant is another one than before. Functions and classes are none, nor are objects of the
    ``module``'s own classes, since those are others in the changed one."""
    if isinstance(old, np.ndarray):
        return not np.array_equal(old, new)
    if isinstance(old, dict) and not all(isinstance(part, _PLAIN) for pair in old.items() for part in pair):
        return False
    if dataclasses.is_dataclass(old) and not isinstance(old, type):
        return type(old).__module__ != module and new != old
    return isinstance(old, (*_PLAIN, dict)) and new != old


def _functions(module: types.ModuleType) -> Iterator[tuple[str, types.FunctionType]]:
    """Functions and methods that the module defines, by qualified name."""
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        members = vars(value).values() if inspect.isclass(value) else (value,)
        for member in members:
            plain = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            plain = inspect.unwrap(plain) if callable(plain) else plain  # what is cached or a context manager
            if isinstance(plain, types.FunctionType):
                yield plain.__qualname__, plain


# ---------------------------------------------------------------------------- the command


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _names(module: str) -> list[str]:
    """What chooses a target: all, its last name, its last two (where two modules have one name), and its family."""
    package, _, name = module.removeprefix("orchestrator.").rpartition(".")
    family = "apply" if package == "state" and name.startswith("apply") else package
    words = (f"{package}.{name}", *([name] if name != "apply" else []))
    return list(dict.fromkeys(("all", family, *words) if module in TARGETS else words))


def _chosen(words: list[str]) -> list[str]:
    return [module for module in _TESTS_OF if set(_names(module)).intersection(words)]


def main() -> int:
    names = list(dict.fromkeys(name for module in _TESTS_OF for name in _names(module)))
    parser = argparse.ArgumentParser(prog="scripts/mutation", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--module", nargs="+", choices=names, default=["all"], metavar="NAME",
        help=f"{', '.join(names)}; apply: all of state/apply*.py, state.apply only apply.py (default all)",
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", help="only mutants whose description has one of these texts"
    )
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="only these tests (default: all that matter to it)")
    parser.add_argument(
        "--sample", type=int, default=0, metavar="N",
        help="of a module with more mutants only N, chosen at random, the same ones in every run",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, last")
    said = parser.parse_args()
    modules = _chosen(said.module)
    plugin = Plugin(modules, only=tuple(said.only or ()), tests=tuple(said.tests or ()), sample=said.sample)
    tests = said.tests or list(dict.fromkeys(name for module in modules for name in _TESTS_OF[module]))
    os.chdir(ROOT)
    quiet = ["-p", "no:terminal", "--timeout=0", "--override-ini", "addopts=", "-m", "not cluster"]
    off = [word for name in ("xdist", "randomly", "cacheprovider", "faulthandler") for word in ("-p", f"no:{name}")]
    status = pytest.main([*quiet, *off, *tests], plugins=[plugin])
    if not plugin.accounts:
        return int(status) or 1
    return _report(plugin.accounts, as_json=said.json, whole=not (said.only or said.tests))


def _report(accounts: list[Account], *, as_json: bool, whole: bool) -> int:
    total, killed = sum(a.mutants for a in accounts), sum(a.killed for a in accounts)
    bad = [row for account in accounts for row in account.survivors if not row["reason"]]
    percent = round(100 * killed / total, 1) if total else 100.0
    if as_json:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        print(
            json.dumps(
                {
                    "commit": commit.stdout.strip(), "mutants": total, "killed": killed, "percent": percent,
                    "unexplained": len(bad), "load": round(os.getloadavg()[0], 2),
                    "modules": [
                        {
                            "module": a.module, "of": a.of, "mutants": a.mutants, "killed": a.killed,
                            "percent": a.percent, "out_of_time": a.out_of_time, "seconds": a.seconds,
                            "survivors": a.survivors,
                        }
                        for a in accounts
                    ],
                }
            )
        )  # fmt: skip
    else:
        for a in accounts:
            tried = f"{a.mutants:>5} of {a.of:>4} mutants {a.killed:>5} killed"
            print(f"{a.module:<40} {tried} {a.percent:>6} % {a.seconds:>7} s")
        print(f"{'all':<40} {total:>5} mutants {killed:>5} killed {percent:>6} %, {len(bad)} survivors unexplained")
    return 1 if whole and (percent < NEEDED_PERCENT or bad) else 0


if __name__ == "__main__":
    sys.exit(main())
