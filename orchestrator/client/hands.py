"""The client's calls that lay hands on tasks and nodes: commands, files, ports, usage.

Owns: ``Hands``, which ``client.aio.Client`` is, too; and which allocation is meant by a job's name. Leaves to others:
sessions (``client.sessions``). The rule: what is given as a job's name means its first instance that runs, found anew
for every session.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from orchestrator.client import calls
from orchestrator.client.calls import Call, T
from orchestrator.client.endpoints import Endpoints
from orchestrator.client.sessions import Forward, Session, open_session, send_tree, take_tree
from orchestrator.contract import answers, codec, model
from orchestrator.contract.errors import InvalidError, NotFoundError, PreconditionError, RaftsmanError
from orchestrator.contract.place import nowhere, split_place
from orchestrator.contract.transitions import TERMINAL
from orchestrator.contract.tree import Copied, Target
from orchestrator.contract.v1 import session_pb2 as pb

OUTPUT_MAX = 16 * 1024 * 1024


class Hands:
    """A part of ``client.aio.Client``. ``where``: an allocation (``web/api/0``), its id, or a job (``web``,
    ``web/api``), of which the first running instance is meant, a ready one if there is one. Where two attempts of an
    allocation run, the newer one is meant. ``task``: where there are several; "" = the first."""

    _endpoints: Endpoints
    namespace: str
    timeout_s: float

    async def _call(self, call: Call[T]) -> T:
        raise NotImplementedError

    # ------------------------------------------------------------------ commands

    async def exec(
        self,
        where: model.AllocationId | str,
        command: Sequence[str],
        *,
        task: str = "",
        tty: bool = False,
        stdin: bool = False,
        rows: int = 0,
        columns: int = 0,
        term: str = "",
        namespace: str | None = None,
    ) -> Session:
        """Start a command in a running task; it ends when the session is closed. With a ``tty`` its output is one
        stream, and what is sent is what a keyboard would say. ``async with await client.exec(...) as session``."""
        wanted = pb.ExecOpen(command=list(command), tty=tty, stdin=stdin, term=term)
        wanted.size.rows, wanted.size.columns = rows, columns
        return await self._open(where, task, namespace, pb.SessionOpen(exec=wanted))

    async def run_in(
        self,
        where: model.AllocationId | str,
        command: Sequence[str],
        *,
        input: bytes | None = None,
        task: str = "",
        namespace: str | None = None,
    ) -> answers.ExecResult:
        """Run a command in a running task to its end. Raises ``PreconditionError`` above 16 MiB of output."""
        async with await self.exec(where, command, task=task, stdin=input is not None, namespace=namespace) as session:

            async def feed() -> None:
                await session.send(input or b"")
                await session.end_input()

            feeding = asyncio.ensure_future(feed())
            said: dict[bool, bytearray] = {False: bytearray(), True: bytearray()}
            try:
                while (piece := await session.read()) is not None:
                    said[piece[0]] += piece[1]
                    if len(said[False]) + len(said[True]) > OUTPUT_MAX:
                        raise PreconditionError("it wrote more than 16 MiB: read it with exec, as it comes")
            finally:
                feeding.cancel()
            return answers.ExecResult(
                exit_code=session.exit_code or 0, stdout=bytes(said[False]), stderr=bytes(said[True])
            )

    # ------------------------------------------------------------------ files

    async def copy_to(
        self,
        local: str | os.PathLike[str],
        where: model.AllocationId | str,
        path: str,
        *,
        task: str = "",
        namespace: str | None = None,
    ) -> Copied:
        """Copy a file or directory into a running task, as ``cp -r`` would: into an existing directory under its own
        name, else as ``path``. ``local/.``: what is in the directory. Permissions are kept, owners are not."""

        async def begin(target: Target) -> Session:
            asked = pb.CopyIn(path=target.path, name=target.name, directory=target.directory, contents=target.contents)
            return await self._open(where, task, namespace, pb.SessionOpen(copy_in=asked))

        return await send_tree(begin, local, path)

    async def copy_from(
        self,
        where: model.AllocationId | str,
        path: str,
        local: str | os.PathLike[str],
        *,
        task: str = "",
        namespace: str | None = None,
    ) -> Copied:
        """Copy a file or directory out of a task, as ``copy_to`` the other way. Nothing is written outside of
        ``local``: links that lead out of the tree are left out (``Copied.skipped``)."""

        async def begin() -> Session:
            asked = pb.SessionOpen(copy_out=pb.CopyOut(path=path))
            return await self._open(where, task, namespace, asked, running=False)

        return await take_tree(begin, path, local)

    # ------------------------------------------------------------------ ports

    def port_forward(
        self,
        where: model.AllocationId | str,
        remote: int | str,
        local: int = 0,
        *,
        host: str = "127.0.0.1",
        task: str = "",
        namespace: str | None = None,
        told: Callable[[RaftsmanError], None] = lambda _error: None,
    ) -> Forward:
        """``async with client.port_forward("web", 80) as forward``: what connects to ``forward.address`` reaches the
        task's port (a number as the task sees it, or a label). ``local`` 0: any free port. Loopback only.

        It does not start where nothing runs (``PreconditionError``), or where what runs has no such port or task
        (``InvalidError``, with those that it has)."""
        if host not in ("127.0.0.1", "::1", "localhost"):
            raise InvalidError(f"host: {host!r}; a forwarded port is open to all who can reach it, so loopback only")
        if isinstance(remote, int) and not 0 < remote < 65_536:
            raise InvalidError(f"{remote} is no port: expected 1 to 65535, or a port's label")
        if not 0 <= local < 65_536:
            raise InvalidError(f"local: {local} is no port: expected 1 to 65535, or 0 for any free one")
        asked = pb.Connect(label=remote) if isinstance(remote, str) else pb.Connect(port=remote)

        async def begin() -> Session:
            return await self._open(where, task, namespace, pb.SessionOpen(connect=asked))

        async def check() -> None:
            await self._check_port(where, remote, task, namespace)

        return Forward(begin, host=host, port=local, told=told, check=check)

    async def _check_port(
        self, where: model.AllocationId | str, remote: int | str, task: str, namespace: str | None
    ) -> None:
        """Refuse what the agent would refuse at each connection. Numbers pass: the task alone knows them."""
        running = await self._matching(where, namespace, running=True)
        meant = running[0]
        if isinstance(remote, str):
            port = next((one for one in meant.ports if one.label == remote), None)
            if port is None:
                known = ", ".join(one.label for one in meant.ports) or "none"
                has = next((one for one in running if any(port.label == remote for port in one.ports)), None)
                hint = f"; {has.id} has one" if has is not None else ""
                raise InvalidError(f"{meant.id} has no port {remote!r} (its ports: {known}){hint}")
            if port.protocol is not model.Protocol.TCP:
                raise InvalidError(
                    f"port {remote!r} of {meant.id} is {port.protocol.name.lower()}: only tcp is forwarded"
                )
        if task:
            job = (await self._call(calls.get_job(meant.id.namespace, meant.id.job, False))).job
            group = next((one for one in job.spec.groups if one.name == meant.id.group), None)
            if group is None or (job.uid, job.version) != (meant.job_uid, meant.job_version):
                return  # what runs is of another version: its agent knows
            names = [one.name for one in group.tasks]
            if task not in names:
                raise InvalidError(f"{meant.id} has no task {task!r} (its tasks: {', '.join(names)})")

    # ------------------------------------------------------------------ usage, drains

    async def get_usage(self, node: str = "") -> answers.UsageAnswer:
        """What nodes, their tasks and devices use now; ``node`` "": all. ``unknown``: of whom nothing could be learned
        in time, and why."""
        return await self._call(calls.get_usage(node))

    async def drain_status(self, node: str, stale: bool = False) -> answers.DrainStatus:
        """What is still on a node that is being drained, and what each of it waits for."""
        return await self._call(calls.drain_status(node, stale))

    # ------------------------------------------------------------------ which allocation

    async def _open(
        self,
        where: model.AllocationId | str,
        task: str,
        namespace: str | None,
        wanted: pb.SessionOpen,
        *,
        running: bool = True,
    ) -> Session:
        id_, attempt = await self.find_running(where, namespace, running=running)
        codec.encode(id_, wanted.id)
        wanted.attempt, wanted.task = attempt, task
        return await open_session(self._endpoints, wanted, self.timeout_s)

    async def find_running(
        self, where: model.AllocationId | str, namespace: str | None = None, *, running: bool = True
    ) -> tuple[model.AllocationId, int]:
        """(allocation, attempt) that is meant. ``running`` False: also one that has ended, should none run. Raises
        ``NotFoundError``, ``PreconditionError`` where none runs, with how they stand."""
        chosen = (await self._matching(where, namespace, running=running))[0]
        return chosen.id, chosen.attempt

    async def _matching(
        self, where: model.AllocationId | str, namespace: str | None, *, running: bool
    ) -> list[model.Allocation]:
        """What may be meant, the one that is first; raises as ``find_running`` does."""
        if isinstance(where, model.AllocationId):
            space, job = where.namespace, where.job
            rest: tuple[str, ...] = (where.group, str(where.ordinal))
        else:
            parts = split_place(where)
            if len(parts) > 3 or not all(parts) or (len(parts) == 3 and not parts[2].isdecimal()):
                raise InvalidError(f"expected JOB, JOB/GROUP, JOB/ORDINAL or JOB/GROUP/ORDINAL, got {where!r}")
            space = self.namespace if namespace is None else namespace
            job, rest = parts[0], tuple(parts[1:])
        listed = (await self._call(calls.list_allocations(space, job, "", False, False))).allocations
        newest: dict[model.AllocationId, model.Allocation] = {}
        for one in listed:
            if _matches(one.id, rest) and (one.id not in newest or _counts(newest[one.id]) < _counts(one)):
                newest[one.id] = one
        found = [newest[id_] for id_ in sorted(newest)]
        if not found:
            spec = (await self._call(calls.get_job(space, job, False))).job.spec  # raises where there is no such job
            if gone := nowhere(spec, rest):
                raise NotFoundError(gone)
            raise NotFoundError(f"nothing of {where} was placed; 'raftsman why {job}' says why")
        up = [one for one in found if one.state is model.AllocState.RUNNING]
        if not up and running:
            standing = ", ".join(
                f"{one.id} {one.state.name.lower()}" + (f" ({one.reason})" if one.reason else "") for one in found[:3]
            )
            raise PreconditionError(f"nothing of {where} runs: {standing}", reason="NOT_RUNNING")
        up.sort(key=lambda one: not one.ready)  # stable: the first of those that are ready
        return up or found


def _counts(one: model.Allocation) -> tuple[bool, bool, int]:
    """Of two attempts the greater is meant. In a rollout the older one runs while its successor starts, and goes on
    where that has failed."""
    return one.state is model.AllocState.RUNNING, one.state not in TERMINAL, one.attempt


def _matches(id_: model.AllocationId, rest: tuple[str, ...]) -> bool:
    if len(rest) == 2:
        return (id_.group, str(id_.ordinal)) == rest
    if len(rest) == 1:
        return rest[0] in (id_.group, str(id_.ordinal))
    return True
