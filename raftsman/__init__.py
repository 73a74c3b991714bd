"""Raftsman for Python programs: ``from raftsman import Client, Job, Task, LocalCluster, workload``.

``workload`` is for programs that run as tasks: ready, heartbeats, metrics, ports, the wish to end.

``Client`` is the asyncio client, ``SyncClient`` the blocking one with the same methods. ``errors`` has what they raise,
``model`` the records that they take and give, ``TlsFiles`` the certificates, ``Change`` what ``what_if`` asks about.
Everything is loaded on first use: importing this package costs nothing, and a client install lacks what
``LocalCluster`` needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.client import workload as workload
    from orchestrator.client.aio import Client as Client
    from orchestrator.client.job import Job as Job
    from orchestrator.client.job import Task as Task
    from orchestrator.client.sync import Client as SyncClient
    from orchestrator.contract import errors as errors
    from orchestrator.contract import model as model
    from orchestrator.contract.channel import TlsFiles as TlsFiles
    from orchestrator.contract.foresight import Change as Change
    from orchestrator.ops.dev import LocalCluster as LocalCluster

_HOME = {
    "Client": ("orchestrator.client.aio", "Client"),
    "SyncClient": ("orchestrator.client.sync", "Client"),
    "Job": ("orchestrator.client.job", "Job"),
    "Task": ("orchestrator.client.job", "Task"),
    "TlsFiles": ("orchestrator.contract.channel", "TlsFiles"),
    "Change": ("orchestrator.contract.foresight", "Change"),
    "LocalCluster": ("orchestrator.ops.dev", "LocalCluster"),
}

_MODULES = {
    "errors": "orchestrator.contract.errors",
    "model": "orchestrator.contract.model",
    "workload": "orchestrator.client.workload",  # for tasks: the standard library alone
}

__all__ = [
    "Change", "Client", "Job", "LocalCluster", "SyncClient", "Task", "TlsFiles", "errors", "model", "workload",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name not in _HOME:
        raise AttributeError(f"module 'raftsman' has no attribute {name!r}")
    module, attribute = _HOME[name]
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if name != "LocalCluster" or (error.name or "").partition(".")[0] in ("orchestrator", "agent"):
            raise
        raise ImportError(
            f"LocalCluster needs more than a client install has ({error.name} is missing): pip install 'raftsman[all]'"
        ) from error


def __dir__() -> list[str]:
    return sorted(__all__)
