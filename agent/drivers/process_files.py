"""Copies files of a task of the process driver, with the task's rights: a tar stream on standard output or input.

Owns: becoming the task's user before anything is opened, so that nothing can be read or written that the task itself
could not; the first line of the answer. Leaves to others: tar (``contract.tree``). The rule: run by path with
``python -I -S``; everything that may have to be imported is, before the user changes.

Into the directories of runs nothing is copied, except the task's own working directory: ``..`` of that holds what the
agent needs to know of the run.

Arguments: the file of ``contract.tree``, the run directory, ``out PATH`` or ``in PATH NAME DIRECTORY CONTENTS``. It
says one line of JSON first (``name``, or ``error`` and ``reason``), and ``in`` says another one at the end.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

import process_shim  # type: ignore[import-not-found]


def main(tree_file: str, directory: str, way: str, arguments: list[str]) -> None:
    tree = _load(tree_file)
    spec = process_shim.Spec.read(os.path.join(directory, "spec"))  # noqa: PTH118
    os.umask(0o022)
    run = os.path.realpath(directory)
    try:
        os.chdir(spec.cwd)  # as the task got there, too: its user may not walk through the agent's directory
        if spec.gid >= 0:
            os.setgroups(spec.groups)
            os.setgid(spec.gid)
        if spec.uid >= 0:
            os.setuid(spec.uid)
        if way == "out":
            _out(tree, arguments[0])
        else:
            path, name, is_directory, contents = arguments
            target = tree.Target(path=path, name=name, directory=is_directory == "1", contents=contents == "1")
            _in(tree, run, target)
    except tree.TreeError as error:
        _say({"error": str(error), "reason": error.reason})
        sys.exit(1)
    except OSError as error:
        _say({"error": f"{error.filename or spec.cwd}: {error.strerror}", "reason": "FAILED_PRECONDITION"})
        sys.exit(1)


def _load(file: str) -> Any:
    found = importlib.util.spec_from_file_location("tree", file)
    assert found is not None and found.loader is not None, file
    module = importlib.util.module_from_spec(found)
    sys.modules["tree"] = module  # dataclasses look for it there
    found.loader.exec_module(module)
    return module


def _say(value: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(value).encode() + b"\n")
    sys.stdout.buffer.flush()


def _out(tree: Any, path: str) -> None:
    name = os.path.basename(os.path.abspath(path)) or "root"  # noqa: PTH100, PTH119
    if not os.path.exists(path):  # noqa: PTH110
        raise tree.TreeError(f"there is no {path}", reason="NOT_FOUND")
    _say({"name": name})
    try:
        for piece in tree.pack(path, name, tree.Copied()):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    except tree.TreeError as error:
        sys.stderr.write(str(error))
        sys.stderr.flush()
        os._exit(1)


def _in(tree: Any, run: str, target: Any) -> None:
    exists, is_directory = os.path.lexists(target.path), os.path.isdir(target.path)  # noqa: PTH112
    lands = tree.landing(target, exists=exists, is_directory=is_directory)
    if not os.path.isdir(lands.directory):  # noqa: PTH112
        raise tree.TreeError(f"there is no directory {lands.directory}", reason="NOT_FOUND")
    where = os.path.realpath(lands.directory)
    if _within(where, os.path.dirname(run)) and not _within(where, run + "/work"):  # noqa: PTH120
        raise tree.TreeError(
            f"{lands.directory} is {where}, where the node's agent keeps what it knows of its runs: copy to "
            "the task's own directory or elsewhere",
            reason="INVALID",
        )
    _say({"name": lands.name})
    copied = tree.unpack(lambda size: os.read(0, size), lands.directory, lands.name, any_links=True)
    _say({"files": copied.files, "skipped": copied.skipped})


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
