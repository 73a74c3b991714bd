"""The architecture, held by a machine: what import-linter cannot see (runtime imports, empty packages, the map)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.effort import seeds

ROOT = Path(__file__).resolve().parent.parent
PURE = (
    "orchestrator.contract.model",
    "orchestrator.contract.transitions",
    "orchestrator.state",
    "orchestrator.reconcile",
    "orchestrator.scheduling",
    "orchestrator.plan",
    "orchestrator.foresight",
    "agent.across",
    "agent.reconcile",
    "agent.records",
)
IO_LIBRARIES = ("asyncio", "grpc", "google.protobuf", "pysyncobj", "docker", "structlog", "pydantic", "psutil")


def modules_of(name: str) -> list[str]:
    """The module itself, or every module below it when it is a package."""
    path = ROOT / name.replace(".", "/")
    if not path.is_dir():
        return [name]
    files = sorted(path.rglob("*.py"))
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


def loaded_by(imports: list[str]) -> set[str]:
    return loaded_after("\n".join(f"import {name}" for name in imports))


def loaded_after(code: str) -> set[str]:
    """Every module that a process has loaded which did this."""
    code += "\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_deciding_loads_no_io_library() -> None:
    """All in one process: what they do not load together, none loads alone; and each start of numpy takes time."""
    names = [module for name in PURE for module in modules_of(name)]
    loaded = loaded_by(names)
    assert loaded >= set(names)
    found = {module for module in loaded for library in IO_LIBRARIES if f"{module}.".startswith(f"{library}.")}
    # numpy's own start-up may touch the standard library; third-party I/O and asyncio it does not.
    assert not found


def test_a_client_install_needs_neither_numpy_nor_pysyncobj_nor_docker() -> None:
    names = [*modules_of("orchestrator.client"), *modules_of("orchestrator.cli"), "raftsman"]
    loaded = loaded_by(names)
    assert not loaded & {"numpy", "pysyncobj", "docker", "psutil"}


def test_the_agent_needs_neither_numpy_nor_pysyncobj() -> None:
    assert not loaded_by(modules_of("agent")) & {"numpy", "pysyncobj"}


def test_an_agent_stays_small() -> None:
    """Together 28 MiB, on every node, for painting tracebacks, for one look at a certificate and at the settings, and
    for guessing how an engine's JSON is encoded."""
    loaded = loaded_after(
        "import agent.daemon\n"
        "from pathlib import Path\n"
        "from agent.registry import DRIVERS, DriverSettings\n"
        "DRIVERS['docker'](DriverSettings(data=Path('/d')))"
    )
    assert {"agent.daemon", "docker"} <= loaded
    assert not loaded & {"rich", "pygments", "cryptography", "pydantic", "yaml", "charset_normalizer"}


def test_a_peer_starts_with_nothing_that_serving_does_not_need() -> None:
    """When all peers start together, nobody serves until they have loaded what they import."""
    loaded = loaded_after(
        "from orchestrator.daemon import load\nload({'id': 'p1', 'peers': 'p1=h:1', 'data': '/d', 'insecure': True})"
    )
    assert "orchestrator.daemon" in loaded
    assert not loaded & {"rich", "cryptography.x509", "google.protobuf.descriptor_pb2"}


@pytest.mark.parametrize("collects", seeds([True, False], fast=[True]))
def test_importing_the_daemon_leaves_the_collector_as_it_was(collects: bool) -> None:
    """It looks for no garbage meanwhile."""
    code = (
        f"import gc, sys\ngc.{'enable' if collects else 'disable'}()\nlooks = []\n"
        "gc.callbacks.append(lambda phase, info: looks.append('grpc' in sys.modules))\n"
        "import orchestrator.daemon\n"
        "print(any(looks), gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(collects)]


def test_listing_jobs_loads_neither_pydantic_nor_numpy() -> None:
    # The help goes where the list of modules does: its words are none of those that are looked for.
    loaded = loaded_after(
        "import sys\nfrom orchestrator.cli.main import main\n"
        "sys.argv = ['raftsman', 'ps', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "import orchestrator.client.sync"
    )
    assert "orchestrator.cli.main" in loaded
    assert not loaded & {"pydantic", "numpy", "yaml", "fastapi"}


def test_package_files_are_empty() -> None:
    """The import linter does not see through a package's ``__init__``; ``raftsman`` is the one public door."""
    full = [
        path.relative_to(ROOT)
        for package in ("orchestrator", "agent")
        for path in (ROOT / package).rglob("__init__.py")
        if path.read_text().strip()
    ]
    assert full == []


def test_generated_tests_do_a_part_in_fast() -> None:
    """Their number of examples goes through ``effort.examples``: a plain one is done in full there, too."""
    plain = [
        path.name for path in (ROOT / "tests").rglob("test_*.py") if re.search(r"max_examples=\d", path.read_text())
    ]
    assert plain == []
