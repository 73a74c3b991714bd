"""Raftsman for Python programs: ``from raftsman import Client, Job, Task, LocalCluster, workload``.

``workload`` is for programs that run as tasks: ready, heartbeats, metrics, ports, the wish to end.

``Client`` is the asyncio client, ``SyncClient`` the blocking one with the same methods. Everything is loaded on first
use: importing this package costs nothing, and a client install lacks what ``LocalCluster`` needs.
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
    from orchestrator.ops.dev import LocalCluster as LocalCluster

_HOME = {
    "Client": ("orchestrator.client.aio", "Client"),
    "SyncClient": ("orchestrator.client.sync", "Client"),
    "Job": ("orchestrator.client.job", "Job"),
    "Task": ("orchestrator.client.job", "Task"),
    "LocalCluster": ("orchestrator.ops.dev", "LocalCluster"),
}

__all__ = ["Client", "Job", "LocalCluster", "SyncClient", "Task", "workload"]


def __getattr__(name: str) -> Any:
    if name == "workload":  # for tasks: the standard library alone
        return importlib.import_module("orchestrator.client.workload")
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
