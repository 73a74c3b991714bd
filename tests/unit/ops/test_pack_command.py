"""``raftsman pack``: the table, JSON, the plot, exit codes, and what it says of files that will not do."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orchestrator.cli import main
from orchestrator.ops import pack_json
from orchestrator.ops.pack import names
from tests.unit.ops.pack_samples import (
    k8s_cluster,
    k8s_list,
    k8s_node,
    k8s_pod,
    nomad_allocation,
    nomad_node,
    written,
)

NODES_CSV = "sn,cpu_milli,memory_mib,gpu,model\na,8000,16384,2,A10\nb,8000,16384,2,A10\nc,4000,8192,0,\n"
PODS_CSV = """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,node
p,1000,1024,1,500,,a
q,1000,1024,1,500,A10,b
r,1000,1024,2,1000,,
s,500,512,0,0,,c
"""


@pytest.fixture
def kubectl(tmp_path: Path) -> Path:
    return written(tmp_path / "cluster.json", k8s_cluster())


@pytest.fixture
def trace(tmp_path: Path) -> list[str]:
    (tmp_path / "nodes.csv").write_text(NODES_CSV)
    (tmp_path / "pods.csv").write_text(PODS_CSV)
    return ["--nodes", str(tmp_path / "nodes.csv"), "--pods", str(tmp_path / "pods.csv")]


def run(*arguments: object) -> int:
    return main.run(["pack", *map(str, arguments)])


def test_the_table_of_a_kubernetes_cluster(kubectl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--from", kubectl, "--placement", "binpack", "--placement", "spread", "--no-color") == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == GOLDEN_KUBECTL.splitlines()
    assert said.err.splitlines() == [
        "kubectl: 4 nodes (1 closed), 8 GPUs; 10 pods: 7 run (4 of them stay where they are), 3 wait; 1 hold nothing",
        "no node has what pods that wait ask for: example.com/dpu",
    ]


def test_the_table_of_a_trace(trace: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*trace, "--placement", "fragmentation", "-o", "wide", "-q") == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == GOLDEN_TRACE.splitlines()
    assert said.err == ""


GOLDEN_KUBECTL = """\
PLACEMENT  PODS  WAITING STARTED  NODES USED  NODES FREED  CPU     MEMORY  GPU     GPUS FREE  WHOLE  GPUS FREED  FRAGMENTED
(now)      7                      4                        24.4 %  2.9 %   37.5 %  4.0        4                  2.0 (50 %)
binpack    8     1 of 3           3           2            27.5 %  3.7 %   62.5 %  2.0        2      0           0.9 (43 %)
spread     8     1 of 3           4           0            27.5 %  3.7 %   62.5 %  2.0        2      0           1.1 (57 %)
"""  # noqa: E501
GOLDEN_TRACE = """\
PLACEMENT      PODS  WAITING STARTED  NODES USED  NODES FREED  CPU     MEMORY  GPU     GPUS FREE  WHOLE  GPUS FREED  FRAGMENTED  CPU THERE  MEMORY THERE  GPU THERE  MOVED
(now)          3                      3                        12.5 %  6.2 %   25.0 %  3.0        2                  1.5 (50 %)  12.5 %     6.2 %         25.0 %
fragmentation  4     1 of 1           3           1            17.5 %  8.8 %   75.0 %  1.0        1      1           0.5 (50 %)  17.5 %     8.8 %         75.0 %     1
"""  # noqa: E501


def test_json_has_the_documented_keys(kubectl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--from", kubectl, "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [
        "format", "cpu_unit", "nodes", "nodes_closed", "gpus", "pods", "now", "placements", "overfull_nodes", "carried",
        "ignored", "notes",
    ]  # fmt: skip
    assert [one["placement"] for one in found["placements"]] == list(names())
    assert set(found["placements"][0]) - set(found["now"]) == {
        "placement", "waiting_started", "left_out", "moved", "nodes_freed", "gpus_freed",
    }  # fmt: skip
    assert found["pods"] == {"running": 7, "waiting": 3, "staying": 4, "left_out_of_the_file": 1}


def test_a_trace_without_places_has_no_now(trace: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(trace[-1])
    path.write_text(re.sub(r",[^,\n]*$", "", PODS_CSV, flags=re.MULTILINE))
    assert run(*trace, "-o", "json", "--placement", "auto") == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["now"], found["pods"]["waiting"]) == (None, 4)
    assert (found["placements"][0]["nodes_freed"], found["placements"][0]["waiting_started"]) == (None, 4)
    assert "does not say where pods run" in said.err


def test_the_plot_is_svg_with_a_bar_for_each(kubectl: Path, tmp_path: Path) -> None:
    plot = tmp_path / "out.svg"
    assert run("--from", kubectl, "--plot", plot, "--placement", "binpack") == 0
    text = "\n".join(ElementTree.fromstring(plot.read_text(encoding="utf-8")).itertext())
    assert "GPUs fragmented" in text
    assert text.count("(now)") == text.count("binpack") == 7


def test_a_plot_without_gpus_has_no_panel_of_theirs(tmp_path: Path) -> None:
    path = written(tmp_path / "c.json", k8s_list(k8s_node("a"), k8s_pod("p", "a")))
    assert run("--from", path, "--plot", tmp_path / "out.svg") == 0
    assert "GPU" not in (tmp_path / "out.svg").read_text(encoding="utf-8")


def test_standard_input_will_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(k8s_cluster())))
    assert run("--from", "-", "-o", "name", "--placement", "spread") == 0
    assert capsys.readouterr().out == "spread\n"


def test_the_same_file_twice_is_as_good_as_from(kubectl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--from", kubectl, "-o", "json") == 0
    once = capsys.readouterr().out
    assert run("--nodes", kubectl, "--pods", kubectl, "-o", "json") == 0
    assert capsys.readouterr().out == once


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name the files"),
        (["--nodes", "a"], "name the files"),
        (["--from", "a", "--pods", "b"], "takes the place"),
        (["--from", "a", "--placement", "tetris"], "no placement tetris (there are: auto, binpack"),
        (["--frm", "a"], "no such option"),
    ],
)
def test_wrong_use_exits_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert words.lower() in capsys.readouterr().err.lower()


K8S_NODES = json.dumps(k8s_list(k8s_node("a")))
K8S_PODS = json.dumps(k8s_list(k8s_pod("p")))
NOMAD_NODES = json.dumps([nomad_node("a")])
NOMAD_PODS = json.dumps([nomad_allocation("j", "a")])


@pytest.mark.parametrize(
    ("nodes", "pods", "words"),
    [
        (None, K8S_PODS, "n: No such file or directory"),
        ("", K8S_PODS, "n: is empty"),
        ("  \n", K8S_PODS, "n: is empty"),
        (b"\xff\xfe{", K8S_PODS, "n: is not UTF-8 text"),
        ('{"kind": "List",\n "items": [}', K8S_PODS, "n, line 2, column 12: no JSON"),
        (K8S_PODS, K8S_NODES, "n: expected nodes, found 1 Kubernetes pods: are --nodes and --pods mixed up?"),
        (
            NOMAD_PODS,
            NOMAD_NODES,
            "n: expected nodes, found 1 Nomad allocations or jobs: are --nodes and --pods mixed up?",
        ),
        (K8S_NODES, K8S_NODES, "p: expected pods or allocations, found 1 Kubernetes nodes"),
        (K8S_NODES, NOMAD_PODS, "the files are of two kinds"),
        (K8S_NODES, '{"kind": "List", "items": []}', "p: expected pods or allocations, found nothing"),
        (K8S_NODES, '{"kind": "ConfigMap"}', "p: expected pods or allocations, found items of kind ConfigMap"),
        (K8S_NODES, "[1]", "p, $[0]: expected an object or an array"),
        (K8S_NODES, "[" * 100_000, "p: no JSON that can be read"),
        (K8S_NODES, PODS_CSV, "p: is no JSON, but the other file is"),
        (K8S_NODES, "apiVersion: v1\nitems: []\n", "p: looks like YAML"),
        (NODES_CSV, PODS_CSV.replace("p,1000", "p,many"), "p, line 2, column cpu_milli: 'many' is not a whole number"),
        (NODES_CSV, PODS_CSV.replace("p,1000", "p,99999999999999"), "p, p: cpu_milli or memory_mib is more than"),
        (NODES_CSV, PODS_CSV.replace(",b\n", ",z\n"), "p, pod q, column node: there is no node 'z'"),
        (NODES_CSV + "a,1,1,0,\n", PODS_CSV, "n: two nodes are called 'a'"),
        (PODS_CSV, NODES_CSV, "has no column sn; it has: name, cpu_milli, memory_mib, num_gpu"),
        (PODS_CSV, NODES_CSV, "are --nodes and --pods mixed up?"),
        (NODES_CSV, NODES_CSV, "are --nodes and --pods mixed up?"),
    ],
)
def test_files_that_will_not_do_exit_1_and_say_why(
    nodes: str | bytes | None, pods: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if nodes is not None:
        (tmp_path / "n").write_bytes(nodes if isinstance(nodes, bytes) else nodes.encode())
    (tmp_path / "p").write_text(pods)
    assert run("--nodes", tmp_path / "n", "--pods", tmp_path / "p") == 1
    error = capsys.readouterr().err
    assert words in error.replace(f"{tmp_path}/", "")
    assert error.startswith("raftsman: ")


def test_a_file_beyond_the_bound_is_refused_unread(
    kubectl: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pack_json, "MIB_MAX", -1)
    assert run("--from", kubectl) == 1
    assert "is 0 MiB; more than" in capsys.readouterr().err


def test_one_csv_file_for_both_is_refused(trace: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--from", trace[1]) == 1
    assert "in two files" in capsys.readouterr().err


def test_a_plot_that_cannot_be_drawn_is_refused_before_the_work(
    kubectl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--from", kubectl, "--plot", tmp_path / "none" / "x.svg") == 1
    assert run("--from", kubectl, "--plot", tmp_path / "x.png") == 2
    said = capsys.readouterr()
    assert f"there is no directory {tmp_path / 'none'}" in said.err
    assert "must end in .svg" in said.err
    assert said.out == ""
    assert not (tmp_path / "x.png").exists()
