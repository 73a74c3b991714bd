"""Raftsman inside other people's programs and tests, as the README shows it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from orchestrator.contract.errors import InvalidError, NotFoundError
from orchestrator.contract.model import AllocState
from raftsman import Client, Job, LocalCluster, SyncClient, Task

ROOT = Path(__file__).resolve().parents[2]
READY_S = 240

# A user's own test file: nothing of ours but what is installed.
USERS_TEST = """
import asyncio

import pytest

from raftsman import Job


@pytest.mark.asyncio
@pytest.mark.local_cluster(peers=3, agents=1, driver="process")
async def test_my_job_survives(local_cluster):
    await local_cluster.client.submit(Job("mine", command=["sleep", "600"]))
    killed = await local_cluster.kill_leader()
    assert await local_cluster.leader() != killed
    async with asyncio.timeout(60):
        while (await local_cluster.client.get_job("mine")).job.state != "running":
            await asyncio.sleep(0.05)
    print("DATA", local_cluster.data)


def test_of_something_else():
    pass
"""


def of_a_user(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder that has nothing to do with this repository."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("RAFTSMAN_", "PYTEST_", "PYTHON"))}
    env["RAFTSMAN_CONFIG_DIR"] = str(folder / "config")
    return subprocess.run([sys.executable, *argv], cwd=folder, env=env, capture_output=True, text=True, timeout=READY_S)


@pytest.mark.cluster
def test_the_program_of_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    imports, program = block.split("\n\n", 1)
    source = f"import asyncio\n{imports}\n\nasync def main():\n{textwrap.indent(program, '    ')}\n"
    source += "    print('removed', not cluster.data.exists())\n\nasyncio.run(main())\n"
    (tmp_path / "program.py").write_text(source)
    done = of_a_user(tmp_path, "program.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "removed True\n"


@pytest.mark.cluster
def test_the_fixture_serves_a_users_own_test_file_and_removes_its_cluster(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(USERS_TEST)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = --strict-markers\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )
    done = of_a_user(tmp_path, "-m", "pytest", "-q", "-s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    (data,) = re.findall(r"DATA (\S+)", done.stdout)
    assert not Path(data).exists()
    assert not [one for one in psutil.process_iter(["cmdline"]) if data in " ".join(one.info["cmdline"] or ())]


@pytest.mark.cluster
@pytest.mark.local_cluster(peers=3, agents=2, driver="process")
async def test_both_clients_speak_to_an_embedded_cluster_whose_leader_dies_and_returns(
    local_cluster: LocalCluster,
) -> None:
    cluster = local_cluster
    pair = [
        Task(name="talks", command=["sh", "-c", "echo hello; exec sleep 600"]),
        Task(name="waits", command="sleep 600"),
    ]
    await cluster.client.submit(Job("pair", tasks=pair, count=2))
    killed = await cluster.kill_leader()
    assert killed in cluster.peer_names()
    assert [peer.name for peer in cluster.peers if not peer.alive] == [killed]

    # What a thread without an event loop does; the cluster is one peer short.
    def states(client: SyncClient) -> list[AllocState]:
        return [one.state for one in client.list_allocations(job="pair").allocations]

    def blocking() -> str:
        with SyncClient(cluster.endpoints, tls=cluster.tls) as client:
            client.put_variable("from", "a thread")
            deadline = time.monotonic() + 60
            while states(client) != [AllocState.RUNNING] * 2 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert states(client) == [AllocState.RUNNING] * 2
            hello = b"".join(chunk.data for chunk in client.logs("pair/main/0", task="talks", tail_lines=1))
            return hello.decode()

    assert await asyncio.to_thread(blocking) == "hello\n"
    async with Client(cluster.endpoints, tls=cluster.tls) as client:
        variable = (await client.get_variable("from")).variable
        assert variable is not None
        assert variable.value == "a thread"
        assert (await client.get_job("pair")).job.state == "running"

    await cluster.restart(killed)
    await cluster.wait_ready()
    assert all(peer.alive for peer in cluster.peers)
    with pytest.raises(NotFoundError, match="there are"):
        await cluster.restart("p9")


def test_a_mistake_in_a_job_written_in_python_is_told_like_one_in_a_file() -> None:
    with pytest.raises(TypeError, match="imge"):
        Job("web", imge="nginx")
    with pytest.raises(InvalidError, match="cpu"):
        Job("web", image="nginx", cpu="many")
    with pytest.raises(TypeError, match="not both"):
        Job("web", tasks=[Task(command="true")], image="nginx")
