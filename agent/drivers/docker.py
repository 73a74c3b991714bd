"""The Docker driver: tasks as containers of one engine, possibly shared with other agents.

Owns: talking to the engine. Leaves to others: what a container is given (``docker_arguments``), images
(``docker_images``), files (``docker_files``), the container that holds a group's network (``docker_sandbox``). A task
that asks for more than the safe defaults is refused unless the operator allowed it for this agent. The rule: the SDK
blocks, so every call runs in a thread of its own with a deadline, and streams get a client without one. An engine
that does not answer says nothing about its containers.

Offsets of output count what the engine still has, so they shift when it throws an old file away (30 MiB on).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import json
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import docker
import docker.errors
import docker.types
import docker.types.daemon
import docker.utils
import requests.exceptions

from agent.config import PULL_STALL_S
from agent.driver import (
    SANDBOX,
    DriverInfo,
    DriverUnavailableError,
    Exit,
    Instance,
    InstanceState,
    LogChunk,
    LogsGoneError,
    Ran,
    RunId,
    RunSpec,
    StartError,
)
from agent.drivers import (
    docker_files,
    docker_hands,
    docker_http,
    docker_inside,
    docker_processes,
    docker_sandbox,
    docker_usage,
    docker_volumes,
)
from agent.drivers.docker_arguments import LABEL, Engine, Policy, arguments, check_policy, new_limits, run_of
from agent.drivers.docker_images import Images
from agent.hands import Command, Connection, Entered, Incoming
from agent.log_tail import tail
from agent.usage import Counters
from orchestrator.contract.containers import KEPT_LOGS
from orchestrator.contract.images import IMAGE_LENGTH_MAX, IMAGES_MAX, written
from orchestrator.contract.model import ContainerSpec
from orchestrator.contract.tree import Target

CALL_S = 30.0
PROBE_S = 10.0
"""An engine that says nothing about itself for so long hangs."""
MAX_CALLS = 32
OOM_NOTICE_S = 0.3
EXECUTED_S = 2.0
_ENGINE_TROUBLE = ("shutting down", "containerd.sock", "containerd/sock", "transport is closing", "connection refused")
T = TypeVar("T")


class DockerDriver:
    name = "docker"

    def __init__(
        self,
        *,
        publish_address: str = "127.0.0.1",
        allow_privileged: bool = False,
        allow_host_paths: bool = False,
        allow_host_network: bool = False,
        allow_caps: frozenset[str] = frozenset(),
        pull_silence_s: float = PULL_STALL_S,
    ) -> None:
        self._publish_address = publish_address
        self._policy = Policy(
            privileged=allow_privileged,
            host_paths=allow_host_paths,
            host_network=allow_host_network,
            capabilities=allow_caps,
        )
        self._connected: docker.APIClient | None = None
        self._calls = asyncio.Semaphore(MAX_CALLS)
        self._images = Images(self._call, functools.partial(self._call, slow=True), silence_s=pull_silence_s)
        self._ended: dict[str, Instance] = {}
        self._engine = Engine()
        self._streams: set[Any] = set()
        self._hanging: dict[str, str] = {}
        self._measured = docker_usage.Measured()

    # ------------------------------------------------------------------------ Driver

    async def probe(self) -> DriverInfo:
        try:
            info = await self._call(_info, slow=True)  # not behind calls that hang
        except (DriverUnavailableError, docker.errors.APIError) as error:
            return DriverInfo(available=False, reason=str(error))
        self._engine = Engine(
            cpus=int(info.get("NCPU") or 0),
            architecture=str(info.get("Architecture", "")),
            api=await self._call(lambda api: tuple(int(part) for part in str(api.api_version).split("."))),
        )
        return DriverInfo(
            available=True,
            keeps_runs=bool(info.get("LiveRestoreEnabled")),
            version=str(info.get("ServerVersion", "")),
            engine_id=str(info.get("ID", "")),
        )

    async def images(self) -> tuple[str, ...]:
        try:
            listed = await self._call(lambda api: api.images())
        except docker.errors.APIError as error:
            raise DriverUnavailableError(_why(error)) from error
        return _named(listed)

    async def resolve(self, spec: RunSpec) -> str | None:
        check_policy(spec, self._policy)
        return await self._images.resolve(spec)

    async def prepare(self, spec: RunSpec) -> None:
        check_policy(spec, self._policy)
        if spec.run.task == SANDBOX:
            await self._known_engine()
            await self._call(functools.partial(docker_sandbox.make_image, architecture=self._engine.architecture))
        else:
            await self._images.ensure(spec)

    async def start(self, spec: RunSpec) -> Instance:
        check_policy(spec, self._policy)
        await self._known_engine()
        engine, allowed, address = self._engine, self._policy.host_paths, self._publish_address

        def work(api: docker.APIClient) -> Instance:
            binds = docker_volumes.make(api, spec, engine, host_paths=allowed)
            return _create_and_start(api, spec, arguments(spec, engine, address, binds))

        creating = asyncio.ensure_future(self._call(work))
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            # The thread cannot be stopped halfway; whoever comes next finds what it did by its name.
            creating.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        except docker.errors.APIError as error:
            raise DriverUnavailableError(f"the engine cannot say what became of {spec.name}: {_why(error)}") from error

    async def resize(self, spec: RunSpec) -> None:
        await self._known_engine()
        wanted = new_limits(spec.task, self._engine)
        try:
            await self._call(lambda api: _update(api, spec.name, wanted))
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            raise StartError(f"the engine refuses the new limits: {_why(error)}") from error

    async def _known_engine(self) -> None:
        if not self._engine.cpus:
            await self.probe()

    async def stop(self, name: str, *, signal: str, timeout_ms: int) -> None:
        seconds = math.ceil(timeout_ms / 1000)

        def stop(api: docker.APIClient) -> None:
            with contextlib.suppress(docker.errors.NotFound):
                if signal == "SIGKILL":
                    with contextlib.suppress(docker.errors.APIError):  # it is not running
                        api.kill(name, "SIGKILL")
                api.stop(name, timeout=seconds)

        try:
            await self._call(stop, slow=True)
        except docker.errors.APIError as error:
            raise DriverUnavailableError(f"cannot stop {name}: {_why(error)}") from error

    async def remove(self, name: str) -> None:
        def remove(api: docker.APIClient) -> None:
            with contextlib.suppress(docker.errors.NotFound):
                api.remove_container(name, force=True, v=True)

        try:
            await self._call(remove)
        except docker.errors.APIError as error:
            if error.status_code != 409:  # 409: somebody removes it already
                raise DriverUnavailableError(f"cannot remove {name}: {_why(error)}") from error

    async def inspect(self, name: str) -> Instance | None:
        found = await self._inspected(name)
        exit_ = found.exit if found is not None else None
        if exit_ is not None and exit_.code == 137 and not exit_.oom_killed:
            # The engine's word that memory ran out may come a moment after the end.
            await asyncio.sleep(OOM_NOTICE_S)
            found = await self._inspected(name) or found
        return found

    async def _inspected(self, name: str) -> Instance | None:
        try:
            return await self._call(lambda api: _inspect(api, name))
        except docker.errors.APIError as error:
            raise DriverUnavailableError(f"the engine cannot say what became of {name}: {_why(error)}") from error

    async def list(self, cluster_id: str) -> tuple[Instance, ...]:
        def rows(api: docker.APIClient) -> Any:
            return api.containers(all=True, filters={"label": [f"{LABEL}cluster={cluster_id}"]})

        found: list[Instance] = []
        ended: dict[str, Instance] = {}
        asked = []
        try:
            listed = await self._call(rows)
        except docker.errors.APIError as error:
            raise DriverUnavailableError(f"the engine cannot list its containers: {_why(error)}") from error
        for row in listed:
            known = self._ended.get(row["Id"])
            if row["State"] == "running":
                run = run_of(row["Labels"])
                if run is not None:
                    found.append(_instance(row["Names"][0].lstrip("/"), row["Id"], row["Labels"], run, "running", None))
            elif known is not None and row["State"] == "exited":
                ended[row["Id"]] = known
            else:
                asked.append(row["Id"])
        for one in await asyncio.gather(*(self.inspect(id_) for id_ in asked)):
            if one is not None and one.state is InstanceState.EXITED:
                ended[one.runtime_id] = one
            elif one is not None:
                found.append(one)
        self._ended = ended
        return (*found, *ended.values())

    async def changes(self) -> AsyncIterator[str]:
        filters = {"type": "container", "label": [f"{LABEL}cluster"], "event": ["die", "destroy"]}
        async for event in self._stream(lambda api: _open_events(api, filters), first={}):
            name = event.get("Actor", {}).get("Attributes", {}).get("name", "")
            yield name
        raise DriverUnavailableError("the engine ended its events")

    async def logs(self, name: str, *, follow: bool, tail_lines: int, offset: int) -> AsyncIterator[LogChunk]:
        kept_by = await self._call(lambda api: _log_driver(api, name))
        if not kept_by:
            raise LogsGoneError(f"{name} is unknown on this node")
        if kept_by != KEPT_LOGS:
            raise LogsGoneError(f"its log driver is {kept_by}: only what json-file keeps can be read here")
        if tail_lines > 0:
            everything = [chunk async for chunk in self._output(name, follow=False, offset=offset)]
            for chunk in tail(everything, tail_lines):
                yield chunk
            if not follow:
                return
            if everything:
                offset = everything[-1].offset + len(everything[-1].data)
        async for chunk in self._output(name, follow=follow, offset=offset):
            yield chunk

    # ------------------------------------------------------------------------ hands on it

    async def enter(self, name: str, command: Command) -> Entered:
        return await docker_hands.enter(name, command)

    async def copy_out(self, name: str, path: str) -> tuple[str, AsyncIterator[bytes]]:
        return await docker_hands.copy_out(name, path)

    async def copy_in(self, name: str, target: Target) -> tuple[str, Incoming]:
        return await docker_hands.copy_in(name, target)

    async def connect(self, name: str, port: int) -> Connection:
        return await docker_hands.connect(name, port)

    async def answer(self) -> None:
        await docker_http.answers()

    async def measure(self, instances: Sequence[Instance]) -> Mapping[str, Counters]:
        return await self._measured.measure(instances)

    async def close(self) -> None:
        for stream in list(self._streams):
            stream.close()
        if self._connected is not None:
            self._connected.close()

    async def run_in(self, name: str, command: tuple[str, ...], *, timeout_ms: int) -> Ran:
        try:
            ran = await self._call(
                lambda api: docker_inside.execute(api, name, command, timeout_ms / 1000, self._hanging), slow=True
            )
        except docker.errors.NotFound:
            self._hanging.pop(name, None)
            return Ran(code=-1, output=f"{name} does not run")
        except docker.errors.APIError as error:
            return Ran(code=-1, output=_why(error))  # stopped, paused, no such command
        if ran is None:
            raise TimeoutError
        return ran

    # ------------------------------------------------------------------------ threads and streams

    async def _call(self, work: Callable[[docker.APIClient], T], *, slow: bool = False) -> T:
        """``work`` in a thread; a dead engine becomes ``DriverUnavailableError``. ``slow`` calls wait for nobody."""
        if slow:
            return await _in_thread(lambda: work(self._api()))
        async with self._calls:
            return await _in_thread(lambda: work(self._api()))

    def _api(self) -> docker.APIClient:
        """The client for everything but streams; made when first needed."""
        if self._connected is None:
            self._connected = _connect(CALL_S)
        return self._connected

    async def _stream(self, open_: Callable[[docker.APIClient], Any], *, first: Any = None) -> AsyncIterator[Any]:
        """Items of a blocking stream that may be silent for ever; the connection is its own and ends with it.

        ``first``: an item for when it is open.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(64)

        def open_stream() -> tuple[docker.APIClient, Any]:
            api = _connect(CALL_S)
            try:
                return api, open_(api)
            except BaseException:
                api.close()
                raise

        api, stream = await _in_thread(open_stream)
        self._streams.add(stream)
        if first is not None:
            queue.put_nowait(("item", first))

        def put(kind: str, item: Any) -> None:
            # Waits while the reader is slow; a loop that is gone ends the thread.
            asyncio.run_coroutine_threadsafe(queue.put((kind, item)), loop).result()

        def read() -> None:
            with contextlib.suppress(RuntimeError, asyncio.CancelledError, BaseExceptionGroup):
                try:
                    for item in stream:
                        put("item", item)
                    put("end", None)
                except (
                    OSError,
                    ValueError,
                    requests.exceptions.RequestException,
                    docker.errors.DockerException,
                ) as error:
                    put("error", error)

        threading.Thread(target=read, name="docker-stream", daemon=True).start()
        try:
            while True:
                kind, item = await queue.get()
                if kind == "item":
                    yield item
                elif kind == "end":
                    return
                else:
                    raise DriverUnavailableError(f"the engine's stream broke: {item}")
        finally:
            self._streams.discard(stream)
            with contextlib.suppress(Exception):
                stream.close()
            api.close()
            while not queue.empty():
                queue.get_nowait()

    async def _output(self, name: str, *, follow: bool, offset: int) -> AsyncIterator[LogChunk]:
        place = 0
        try:
            async for stderr, time_ms, data in self._stream(lambda api: _open_output(api, name, follow)):
                start, place = place, place + len(data)
                if place > offset:
                    skip = max(0, offset - start)
                    yield LogChunk(data=data[skip:], offset=start + skip, stderr=stderr, time_ms=time_ms)
        except docker.errors.NotFound:
            raise LogsGoneError(f"{name} is unknown on this node") from None


def _connect(timeout_s: float) -> docker.APIClient:
    parameters: dict[str, Any] = {**docker.utils.kwargs_from_env()}
    parameters |= {"version": "auto", "timeout": timeout_s, "max_pool_size": MAX_CALLS * 2}
    return docker.APIClient(**parameters)


async def _in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread that nobody has to wait for when the process ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = work()
        except (docker.errors.APIError, StartError, DriverUnavailableError) as expected:
            error = expected
        except requests.exceptions.Timeout:
            error = DriverUnavailableError("the Docker engine does not answer: it takes calls and says nothing")
        except (requests.exceptions.RequestException, docker.errors.DockerException, OSError) as broken:
            error = DriverUnavailableError(f"the Docker engine does not answer: {broken}")
        except BaseException as bug:
            error = bug
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, name="docker-call", daemon=True).start()
    return await future


# ---------------------------------------------------------------------------- blocking, in threads


def _named(listed: list[dict[str, Any]]) -> tuple[str, ...]:
    """The largest images of the engine that have a name, at most ``IMAGES_MAX`` names."""
    names: list[str] = []
    for image in sorted(listed, key=lambda image: (-int(image.get("Size") or 0), str(image.get("Id")))):
        parts = [str(one).partition("@") for one in image.get("RepoDigests") or ()]
        digests = {name: digest for name, _, digest in parts}
        tags = [str(tag) for tag in image.get("RepoTags") or () if tag and "<none>" not in tag]
        for tag in sorted(tags):
            name = written(tag, digests.get(tag.rpartition(":")[0], ""))
            if len(name) <= IMAGE_LENGTH_MAX:
                names.append(name)
    return tuple(sorted(dict.fromkeys(names[:IMAGES_MAX])))


def _create_and_start(api: docker.APIClient, spec: RunSpec, arguments: dict[str, Any]) -> Instance:
    arguments = dict(arguments)
    host = api.create_host_config(**arguments.pop("host"))
    host.update(arguments.pop("limits"))
    try:
        api.create_container(name=spec.name, host_config=host, **arguments)
    except docker.errors.NotFound as error:
        raise StartError(f"image {spec.task.image} not found: {_why(error)}", permanent=True) from error
    except docker.errors.APIError as error:
        if error.status_code != 409:
            raise _refused(spec, _why(error)) from error
        found = _inspect(api, spec.name)
        if found is None or found.run != spec.run:
            raise StartError(f"the container name {spec.name} is taken: {_why(error)}") from error
        if found.state is not InstanceState.CREATED:
            return found
    try:
        for root, archive in docker_files.archives(spec):
            api.put_archive(spec.name, root, archive)
        api.start(spec.name)
    except docker.errors.APIError as error:
        with contextlib.suppress(docker.errors.APIError):
            api.remove_container(spec.name, force=True, v=True)
        raise _refused(spec, _why(error)) from error
    row = _look_up(api, spec.name)
    bare = spec.run.task == SANDBOX or (spec.task.container or ContainerSpec()).no_init
    if row is not None and not bare and not _executed(api, spec.name, int(row["State"]["Pid"]), str(row["Id"])):
        row = _look_up(api, spec.name)
    started = _instance_of(api, row) if row is not None else None
    if started is None:
        raise StartError(f"container {spec.name} was removed while it started")
    if started.exit is not None and started.exit.never_ran:
        with contextlib.suppress(docker.errors.APIError):
            api.remove_container(spec.name, force=True, v=True)
        raise StartError(started.exit.reason, permanent=True)
    return started


def _executed(api: docker.APIClient, name: str, pid: int, id_: str) -> bool:
    """Wait until the container's init (``pid``) has become two: itself and the command. False: it may have ended.

    The engine calls a container running as soon as its init does; until the command is executed, its process is a copy
    of the init with the same arguments. Bounded: a slow machine only loses the certainty, not the container. Where the
    container's processes can be seen from here the engine is not asked: it runs a `ps` each time.
    """
    deadline = time.monotonic() + EXECUTED_S
    seen_here = docker_processes.is_of(pid, id_)
    while time.monotonic() < deadline:
        if seen_here:
            commands = len(docker_processes.commands(pid))
            if commands == 0:
                return False
        else:
            try:
                # A command that could not be executed is a dead copy for as long as its init has not noticed.
                rows = api.top(name, ps_args="-o pid,args").get("Processes") or ()
                commands = len({row[-1] for row in rows if "<defunct>" not in row[-1]})
            except docker.errors.APIError as error:
                # Nothing runs in it any more, but the engine may call it running for a moment longer.
                if error.status_code not in (409, 500) or not _runs(api, name):
                    return False
                commands = 0
        if commands > 1:
            return True
        time.sleep(0.002 if seen_here else 0.01)
    return False


def _update(api: docker.APIClient, name: str, limits: dict[str, int]) -> None:
    # The SDK's own call leaves NanoCpus out, and quota and period cannot be changed where that was set.
    response = api.post(
        f"{api.base_url}/v{api.api_version}/containers/{name}/update",
        json=limits,
        timeout=CALL_S,
    )
    _check(response)


def _log_driver(api: docker.APIClient, name: str) -> str:
    """What keeps a container's output; "" where there is no such container."""
    try:
        found = api.inspect_container(name)
    except docker.errors.NotFound:
        return ""
    return str(found["HostConfig"]["LogConfig"]["Type"])


def _runs(api: docker.APIClient, name: str) -> bool:
    """Whether the engine calls the container running."""
    try:
        return bool(api.inspect_container(name)["State"]["Running"])
    except docker.errors.NotFound:
        return False


def _refused(spec: RunSpec, why: str) -> StartError | DriverUnavailableError:
    """The engine made or started no container: its own trouble is none of the task's."""
    text = why.lower()
    if any(words in text for words in _ENGINE_TROUBLE):
        return DriverUnavailableError(f"the Docker engine cannot start containers now: {why}")
    return _start_error(spec, why)


def _start_error(spec: RunSpec, why: str) -> StartError:
    """What the engine said when it did not start a container, in the user's words."""
    text = why.lower()
    if "no space left on device" in text:
        return StartError(f"the disk of this node's Docker engine is full: {why}")
    if "port is already allocated" in text or "address already in use" in text:
        ports = ", ".join(str(port.host_port) for port in spec.ports)
        return StartError(f"host port {ports} is taken on this node: {why}")
    if spec.network_mode in why and "network" in text and "not found" in text:
        return StartError(
            f"network {spec.network_mode} does not exist on this node: docker network create {spec.network_mode}",
            permanent=True,
        )
    command = next(iter((*spec.task.command, *spec.task.args)), "")
    what = f"command {command!r}" if command else "the image's own command"
    if "executable file not found" in text or "no such file or directory" in text:
        return StartError(f"{what} not found in image {spec.task.image}: {why}", permanent=True)
    if "permission denied" in text or "exec format error" in text:
        return StartError(f"{what} cannot be run in image {spec.task.image}: {why}", permanent=True)
    if "unable to find user" in text or "unable to find group" in text:
        return StartError(f"user {spec.task.user!r} is not in image {spec.task.image}: {why}", permanent=True)
    return StartError(why)


def _look_up(api: docker.APIClient, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = api.inspect_container(name)
    except docker.errors.NotFound:
        return None
    return found


def _inspect(api: docker.APIClient, name: str) -> Instance | None:
    found = _look_up(api, name)
    return _instance_of(api, found) if found is not None else None


def _instance_of(api: docker.APIClient, found: dict[str, Any]) -> Instance | None:
    labels = found["Config"]["Labels"] or {}
    run = run_of(labels)
    if run is None:
        return None
    state = found["State"]
    one = _instance(found["Name"].lstrip("/"), found["Id"], labels, run, state["Status"], state)
    if one.exit is not None and one.exit.code in (126, 127):
        why = _init_failure(api, found["Id"])
        if why:
            image = found["Config"]["Image"]
            reason = f"command not found in image {image}: {why}"
            return replace(one, exit=replace(one.exit, reason=reason, never_ran=True))
    return one


def _init_failure(api: docker.APIClient, id_: str) -> str:
    """What the init said when it could not run the command; the engine takes that for an ordinary exit."""
    try:
        said = api.logs(id_, stdout=False, stderr=True, tail=5)
    except docker.errors.APIError:
        return ""
    for line in bytes(said).decode("utf-8", "replace").splitlines():
        if line.startswith("[FATAL tini") and " exec " in line:
            return line.partition("] ")[2]
    return ""


def _instance(
    name: str, id_: str, labels: dict[str, str], run: RunId, status: str, state: dict[str, Any] | None
) -> Instance:
    exit_: Exit | None = None
    what = InstanceState.RUNNING
    if status == "created":
        what = InstanceState.CREATED
    elif status in ("exited", "dead", "removing"):
        what = InstanceState.EXITED
        code = int(state["ExitCode"]) if state else -1
        exit_ = Exit(
            code=code,
            signal=code - 128 if 128 < code <= 128 + 64 else 0,
            # A killed child of a task that went on and exited with 0 is no failure.
            oom_killed=bool(state and state.get("OOMKilled")) and code != 0,
            ended_ms=_unix_ms(state.get("FinishedAt", "")) if state else 0,
        )
    return Instance(
        name=name,
        driver=DockerDriver.name,
        cluster_id=labels.get(LABEL + "cluster", ""),
        node_id=labels.get(LABEL + "node", ""),
        run=run,
        runtime_id=id_,
        state=what,
        exit=exit_,
    )


def _info(api: docker.APIClient) -> dict[str, Any]:
    response = api.get(f"{api.base_url}/v{api.api_version}/info", timeout=PROBE_S)
    _check(response)
    found: dict[str, Any] = response.json()
    return found


def _open_output(api: docker.APIClient, name: str, follow: bool) -> Any:
    params = {"stdout": "1", "stderr": "1", "follow": str(int(follow)), "timestamps": "1", "tail": "all"}
    response = _open(api, f"containers/{name}/logs", params)
    return docker.types.daemon.CancellableStream(_frames(response), response)


def _open_events(api: docker.APIClient, filters: dict[str, Any]) -> Any:
    response = _open(api, "events", {"filters": docker.utils.convert_filters(filters)})
    lines = (json.loads(line) for line in response.iter_lines(chunk_size=None) if line)
    return docker.types.daemon.CancellableStream(lines, response)


def _open(api: docker.APIClient, path: str, params: dict[str, str]) -> Any:
    """A response that may go on for ever; it has to begin in time."""
    response = api.get(f"{api.base_url}/v{api.api_version}/{path}", params=params, stream=True, timeout=CALL_S)
    _check(response)
    connection: Any = response.raw.connection
    connection.sock.settimeout(None)
    return response


def _check(response: Any) -> None:
    try:
        response.raise_for_status()
    except requests.exceptions.HTTPError as error:
        raise docker.errors.create_api_error_from_http_exception(error) from error


def _frames(response: Any) -> Iterator[tuple[bool, int, bytes]]:
    """(is stderr, unix ms, bytes) of the engine's multiplexed stream: a type byte, three zeros, a length, the bytes,
    which begin with the time and a blank."""
    while len(header := response.raw.read(8)) == 8:
        length = int.from_bytes(header[4:], "big")
        data = response.raw.read(length)
        stamp, blank, said = data.partition(b" ")
        if blank and said:
            yield header[0] == 2, _unix_ms(stamp.decode("ascii", "replace")), said
        if len(data) < length:
            return


def _why(error: docker.errors.APIError) -> str:
    return str(error.explanation or error).strip()


def _unix_ms(text: str) -> int:
    """An engine's time (RFC 3339 with up to nine digits) as unix milliseconds; 0 if it is none."""
    try:
        seconds, _, fraction = text.rstrip("Z").partition(".")
        moment = datetime.datetime.fromisoformat(seconds).replace(tzinfo=datetime.UTC)
    except ValueError:
        return 0
    return int(moment.timestamp() * 1000) + int((fraction + "000")[:3])
