"""Reading traces: what is accepted, and that each thing wrong is named with its place; the benchmark on a tiny one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.ops.trace import TraceError, read_nodes, read_pods
from orchestrator.ops.trace_cluster import shapes_of, view_of, wish_of_pod
from orchestrator.scheduling.filters import has_room
from orchestrator.scheduling.problem import Problem
from scripts.bench_trace import mixed

NODES = """sn,cpu_milli,memory_mib,gpu,model
a,16000,65536,2,A10
b,32000,131072,4,A100
c,64000,262144,0,
"""
PODS = """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time
p0,4000,8192,1,1000,,LS,Running,0,3600,10
p1,2000,4096,1,300,A10,LS,Running,5,7200.0,
p2,8000,16384,2,1000,A100|A10,BE,Running,9,900,9
p3,1000,1024,0,0,,BE,Failed,20,30,21
p4,1000,1024,1,500,,BE,Failed,20,3000,21
"""
SCRIPT = Path(__file__).parents[3] / "scripts" / "bench_trace.py"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
    nodes.write_text(NODES)
    pods.write_text(PODS)
    return nodes, pods


def test_a_trace_is_read_as_it_stands(files: tuple[Path, Path]) -> None:
    nodes, pods = read_nodes(files[0]), read_pods(files[1])
    assert [(node.name, node.gpus, node.model) for node in nodes] == [("a", 2, "A10"), ("b", 4, "A100"), ("c", 0, "")]
    assert pods[2].models == ("A10", "A100")
    assert [pod.duration_s for pod in pods] == [3590, 7195, 891, 9, 2979]
    assert dict(shapes_of(pods))  # every pod has one


def test_columns_may_come_in_any_order_and_nodes_without_gpus(tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    path.write_text("\ufeffmemory_mib, cpu_milli ,sn,rack\n1024,500,x,r1\n\n", encoding="utf-8")
    (node,) = read_nodes(path)
    assert (node.name, node.cpu_millis, node.memory_mib, node.gpus) == ("x", 500, 1024, 0)


def test_pods_without_gpus_may_leave_their_cells_empty_and_whole_gpus_their_share(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("num_gpu,name,memory_mib,cpu_milli,gpu_milli\r\n,a,1,1,\r\n2,b,1,1,\r\n1,c,1,1,300\r\n")
    assert [(pod.gpus, pod.gpu_millis, pod.models) for pod in read_pods(path)] == [
        (0, 0, ()),
        (2, 1000, ()),
        (1, 300, ()),
    ]
    path.write_text("name,cpu_milli,memory_mib,num_gpu\na,1,1,0\nb,1,1,8\n")
    assert [(pod.gpus, pod.gpu_millis) for pod in read_pods(path)] == [(0, 0), (8, 1000)]


def test_a_model_is_the_whole_name(files: tuple[Path, Path]) -> None:
    """A10 is a part of A100, but a pod that wants an A10 does not want that."""
    problem = Problem(view_of(read_nodes(files[0])))
    wish = wish_of_pod(read_pods(files[1])[1], "fragmentation")
    import numpy as np

    assert has_room(problem, wish, np.arange(3)).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("bad", "said"),
    {
        "no number": (PODS.replace("p1,2000", "p1,many"), "line 3, column cpu_milli: 'many' is not a whole number"),
        "empty": (PODS.replace("p1,2000", "p1,"), "line 3, column cpu_milli: is empty"),
        "negative": (PODS.replace("p1,2000", "p1,-1"), "line 3, column cpu_milli"),
        "share of two": (PODS.replace(",1,300,", ",1,1300,"), "line 3, column gpu_milli: 1300 is more than 1000"),
        "no share": (PODS.replace(",1,300,", ",1,0,"), "line 3, column gpu_milli: is 0, but num_gpu is 1"),
        "no device": (PODS.replace(",1,300,", ",0,300,"), "line 3, column num_gpu: is 0, but gpu_milli is 300"),
        "no name": (PODS.replace("p1,", ","), "line 3, column name: is empty"),
        "backwards": (PODS.replace("20,30,21", "20,10,21"), "line 5, column deletion_time: 10 is before"),
        "no column": (PODS.replace("num_gpu", "gpus"), "line 1: has no column num_gpu"),
        "ragged": (PODS.replace("p1,2000,", "p1,"), "line 3: has 10 columns, the header has 11"),
        "a column twice": (PODS.replace("qos", "name"), "line 1: two columns have one name"),
        "no rows": (PODS.splitlines()[0] + "\n", "has a header and no rows"),
        "nothing": ("", "line 1: has no column"),
        "a quote left open": (PODS + '"p9,1', "line"),
    }.values(),
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, bad: str, said: str) -> None:
    path = tmp_path / "pods.csv"
    path.write_text(bad)
    with pytest.raises(TraceError) as caught:
        read_pods(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pods.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="not UTF-8"):
        read_pods(path)


# ---------------------------------------------------------------------------- the benchmark


def bench(files: tuple[Path, Path], *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--nodes", str(files[0]), "--pods", str(files[1]), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_benchmark_says_what_was_allocated(files: tuple[Path, Path], tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    policies = ("--policy", "fragmentation,fgd", "--policy", "bestfit")
    done = bench(files, *policies, "--seeds", "2", "--json", "--plot", str(plot))
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert [row["policy"] for row in rows] == ["fragmentation", "fgd", "bestfit"]
    for row in rows:
        assert list(row) == ["policy", "gpu_alloc_pct_at_100", "gpu_alloc_pct_at_130", "decisions_per_s", "seeds"]
        assert 50 < row["gpu_alloc_pct_at_100"]["mean"] <= row["gpu_alloc_pct_at_130"]["mean"] <= 100
        assert row["seeds"] == 2
    assert plot.read_text().count("<polyline") == 3


@pytest.mark.soak
def test_one_policy_gives_one_object_and_the_same_figures_again(files: tuple[Path, Path]) -> None:
    def figures() -> dict[str, object]:
        done = bench(files, "--seeds", "2", "--json", "--typical", "online", "--arrived", "1.1")
        row: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        del row["decisions_per_s"]
        return row

    first = figures()
    assert first["policy"] == "fragmentation"
    assert "gpu_alloc_pct_at_110" in first
    assert figures() == first


@pytest.mark.soak
def test_with_departures_it_says_what_was_delivered_and_waited_for(files: tuple[Path, Path]) -> None:
    done = bench(files, "--departures", "--seeds", "1", "--policy", "fragmentation", "--hours", "3", "--json")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout.splitlines()[-1])
    assert 0 < row["gpu_hours_delivered"] <= 6 * 3
    assert row["wait_p99_s"] >= row["wait_p50_s"] >= 0
    assert row["refused"] == 0


def test_a_node_that_no_cluster_could_have_is_named(tmp_path: Path, files: tuple[Path, Path]) -> None:
    nodes = tmp_path / "huge.csv"
    nodes.write_text(NODES.replace("16000", "1" + "0" * 14))
    done = bench((nodes, files[1]))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "node a: cpu_millis must be from 0 to" in done.stderr


def test_another_mix_takes_so_many_of_a_kind_evenly(files: tuple[Path, Path]) -> None:
    pods = read_pods(files[1])
    names = [pod.name for pod in mixed(pods, {"cpu": 2, "several": 0, "share": 0.5})]
    assert names == ["p0", "p3", "p3"]  # of half of one share nothing is there yet
    assert mixed(pods, {}) == tuple(pods)
    many = [pod.name for pod in mixed(pods * 100, {"share": 0.3, "one": 0.1, "model": 2})]
    counts = {name: many.count(name) for name in ("p0", "p1", "p2", "p3", "p4")}
    assert counts == {"p0": 10, "p1": 60, "p2": 200, "p3": 100, "p4": 30}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--mix", "gpu=2"], "'gpu=2': expected each of cpu, share, one, several, model once"),
        pytest.param(["--mix", "cpu=1,cpu=2"], "'cpu=2': expected each of", marks=pytest.mark.soak),
        pytest.param(["--mix", "cpu=x"], "'cpu=x': expected a number", marks=pytest.mark.soak),
        pytest.param(["--mix", "cpu=-1"], "'cpu=-1': the number is not from 0 to 100", marks=pytest.mark.soak),
        pytest.param(["--mix", "share=0,one=0,several=0"], "no pod asks for one", marks=pytest.mark.soak),
        (["--policy", "bestest"], "no such policy: bestest (there are: binpack"),
        pytest.param(["--pods", "/nowhere/pods.csv"], "/nowhere/pods.csv", marks=pytest.mark.soak),
        pytest.param(["--departures", "--plot", "x.svg"], "not with --departures", marks=pytest.mark.soak),
        pytest.param(["--plot", "x.png"], "draws SVG, so its name must end in .svg", marks=pytest.mark.soak),
        pytest.param(["--plot", "/nowhere/x.svg"], "there is no directory /nowhere", marks=pytest.mark.soak),
    ],
    ids=[
        "mix",
        "twice",
        "no number",
        "negative",
        "no GPU pods",
        "policy",
        "file",
        "plot of departures",
        "plot of another kind",
        "plot nowhere",
    ],
)
def test_the_benchmark_refuses_with_a_reason(files: tuple[Path, Path], more: list[str], said: str) -> None:
    done = bench(files, *more)
    assert done.returncode == 2
    assert said in done.stderr
