"""Which format the files of ``raftsman pack`` are in, and that both belong together.

Owns: telling formats and kinds of items apart. Leaves to others: what items mean (``pack_trace``, ``pack_kubectl``,
``pack_nomad``). The rule: nothing is guessed from a file's name; what was found instead of what was wanted is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.ops import pack_kubectl, pack_nomad, pack_trace
from orchestrator.ops.pack_cluster import PackCluster, PackError
from orchestrator.ops.pack_json import STDIN, At, documents, looks_like_json, read_text


@dataclass(slots=True)
class _Found:
    """The items of one JSON file by kind; ``others``: kinds that are of no use here."""

    kubectl_nodes: list[At] = field(default_factory=list)
    kubectl_pods: list[At] = field(default_factory=list)
    nomad_nodes: list[At] = field(default_factory=list)
    nomad_pods: list[At] = field(default_factory=list)
    others: set[str] = field(default_factory=set)

    @property
    def words(self) -> str:
        kinds = (
            ("Kubernetes nodes", self.kubectl_nodes), ("Kubernetes pods", self.kubectl_pods),
            ("Nomad nodes", self.nomad_nodes), ("Nomad allocations or jobs", self.nomad_pods),
        )  # fmt: skip
        there = [f"{len(items)} {kind}" for kind, items in kinds if items]
        return ", ".join(there + sorted(self.others)) or "nothing"


def read(nodes: Path, pods: Path) -> PackCluster:
    """Both may be the same file. Raises ``PackError``."""
    texts = {path: read_text(path) for path in dict.fromkeys((nodes, pods))}
    json = {path: looks_like_json(text) for path, text in texts.items()}
    if not any(json.values()):
        for path, text in texts.items():
            _refuse_yaml(path, text)
        if STDIN in texts:
            raise PackError("standard input is no JSON; a trace is read from two CSV files")
        if nodes == pods:
            raise PackError(f"{nodes}: is no JSON, and a trace has its nodes and its pods in two files")
        return pack_trace.read(nodes, pods)
    if not all(json.values()):
        odd = next(path for path, is_json in json.items() if not is_json)
        _refuse_yaml(odd, texts[odd])
        raise PackError(f"{odd}: is no JSON, but the other file is")
    found = {path: _sort(path, text) for path, text in texts.items()}
    here, there = found[nodes], found[pods]
    if here.kubectl_nodes and there.kubectl_pods:
        return pack_kubectl.read(here.kubectl_nodes, there.kubectl_pods)
    if here.nomad_nodes and there.nomad_pods:
        return pack_nomad.read(here.nomad_nodes, there.nomad_pods)
    if nodes == pods:
        raise PackError(f"{nodes}: expected nodes and pods, found {here.words}")
    if not (here.kubectl_nodes or here.nomad_nodes):
        raise PackError(f"{nodes}: expected nodes, found {here.words}{_mixed_up(here, there)}")
    if not (there.kubectl_pods or there.nomad_pods):
        raise PackError(f"{pods}: expected pods or allocations, found {there.words}")
    raise PackError(f"the files are of two kinds: {nodes} has {here.words}, {pods} has {there.words}")


def _mixed_up(here: _Found, there: _Found) -> str:
    swapped = (here.kubectl_pods and there.kubectl_nodes) or (here.nomad_pods and there.nomad_nodes)
    return ": are --nodes and --pods mixed up?" if swapped else ""


def _refuse_yaml(path: Path, text: str) -> None:
    if text.lstrip().startswith(("apiVersion:", "---", "items:", "kind:")):
        raise PackError(f"{path}: looks like YAML; print JSON: kubectl get nodes,pods -A -o json")


def _sort(path: Path, text: str) -> _Found:
    found = _Found()
    for document in documents(path, text):
        for item, kind in _items(document, ""):
            if kind == "Node":
                found.kubectl_nodes.append(item)
            elif kind == "Pod":
                found.kubectl_pods.append(item)
            elif pack_nomad.is_node(item):
                found.nomad_nodes.append(item)
            elif pack_nomad.is_allocation(item) or pack_nomad.job_in(item) is not None:
                found.nomad_pods.append(item)
            else:
                found.others.add(f"items of kind {kind}" if kind else _oddity(item))
    return found


def _items(value: At, kind: str) -> Iterator[tuple[At, str]]:
    """The items of a document, with what Kubernetes calls their kind: lists of theirs, arrays, single ones."""
    if isinstance(value.value, list):
        for item in value.each():
            yield from _items(item, kind)
        return
    if not isinstance(value.value, dict):
        value.refuse("expected an object or an array")
    said = value.text("kind") or kind
    if "items" in value.value and (not said or said.endswith("List")):
        # The API's own lists name the kind once and not in their items.
        for item in value.each("items"):
            yield from _items(item, said.removesuffix("List"))
    else:
        yield value, said


def _oddity(item: At) -> str:
    if isinstance(item.value, dict) and "NodeClass" in item.value:
        return "something like a Nomad node without SchedulingEligibility"
    names = ", ".join(sorted(map(str, item.value))[:5]) if isinstance(item.value, dict) else ""
    return f"objects with {names}" if names else "an empty object"
