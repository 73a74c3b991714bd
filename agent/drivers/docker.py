"""The Docker driver: tasks as containers of one engine, possibly shared with other agents.

Owns: the driver's calls, each as one piece of blocking work. Leaves to others: threads and streams (``docker_calls``),
what a container is given (``docker_arguments``), how GPUs are asked for (``docker_cdi``), starting it
(``docker_start``), what the engine says of it (``docker_found``), its output (``docker_output``), images
(``docker_images``), files (``docker_files``), networks (``docker_networks``), the container that holds a group's
network (``docker_sandbox``), people in it (``docker_hands``). A task that asks for more than the safe defaults is
refused unless the operator allowed it for this agent. The rule: an engine that does not answer says nothing about its
containers.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import docker
import docker.errors

from agent.answering import in_time
from agent.defaults import AT_BRIDGE, PULL_STALL_S
from agent.driver import (
    SANDBOX,
    DriverInfo,
    DriverUnavailableError,
    Instance,
    InstanceState,
    LogChunk,
    Ran,
    RunSpec,
    StartError,
)
from agent.drivers import (
    docker_calls,
    docker_cdi,
    docker_found,
    docker_hands,
    docker_http,
    docker_inside,
    docker_networks,
    docker_output,
    docker_processes,
    docker_sandbox,
    docker_usage,
    docker_volumes,
)
from agent.drivers.docker_arguments import (
    LABEL,
    Engine,
    Policy,
    arguments,
    check_policy,
    new_limits,
    real_devices,
    run_of,
)
from agent.drivers.docker_calls import Calls, check, open_events, why
from agent.drivers.docker_found import instance
from agent.drivers.docker_images import Images, named
from agent.drivers.docker_start import create_and_start
from agent.hands import Command, Connection, Entered, Incoming
from agent.usage import Counters
from orchestrator.contract.tree import Target

LATE = 1024
"""So many starts that were given up are remembered, the newest."""
PROBE_S = 10.0
"""An engine that says nothing about itself for so long hangs."""
OOM_NOTICE_S = 0.3


class DockerDriver:
    name = docker_found.DRIVER

    def __init__(
        self,
        *,
        publish: Sequence[str] = ("127.0.0.1",),
        reach: str = "",
        allow_privileged: bool = False,
        allow_host_paths: bool = False,
        allow_host_network: bool = False,
        allow_caps: frozenset[str] = frozenset(),
        pull_silence_s: float = PULL_STALL_S,
    ) -> None:
        self._publish = tuple(publish)
        self._reach = reach
        self._policy = Policy(
            privileged=allow_privileged,
            host_paths=allow_host_paths,
            host_network=allow_host_network,
            capabilities=allow_caps,
        )
        self._call = Calls()
        self._images = Images(self._call, functools.partial(self._call, slow=True), silence_s=pull_silence_s)
        self._ended: dict[str, Instance] = {}
        self._late: dict[str, None] = {}  # starts that were given up and may yet be carried out, by name, oldest first
        self._engine = Engine()
        self._hanging: dict[str, str] = {}
        self._measured = docker_usage.Measured()
        self._pulse = docker_http.Pulse()

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
            gateway=self._engine.gateway,
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
            raise DriverUnavailableError(why(error)) from error
        return named(listed)

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
        engine, allowed = self._engine, self._policy.host_paths
        publish = [engine.gateway if address == AT_BRIDGE else address for address in self._publish]

        def work(api: docker.APIClient) -> Instance:
            asks = docker_networks.reaches_gateway(api, spec)
            binds = docker_volumes.make(api, spec, engine, host_paths=allowed)
            real = real_devices(spec)
            devices = docker_cdi.request(real, _info(api)) if real else None
            return create_and_start(api, asks, arguments(asks, engine, publish, binds, devices))

        creating = asyncio.ensure_future(self._call(work))
        try:
            started = await asyncio.shield(creating)
        except asyncio.CancelledError:
            # The thread cannot be stopped halfway; whoever comes next finds what it did by its name.
            creating.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._gave_up(spec.name)
            raise
        except DriverUnavailableError:
            self._gave_up(spec.name)
            raise
        except docker.errors.APIError as error:
            self._gave_up(spec.name)
            raise DriverUnavailableError(f"the engine cannot say what became of {spec.name}: {why(error)}") from error
        self._late.pop(spec.name, None)
        return started

    def _gave_up(self, name: str) -> None:
        """The engine may still carry it out."""
        self._late[name] = None
        if len(self._late) > LATE:
            del self._late[next(iter(self._late))]

    async def resize(self, spec: RunSpec) -> None:
        await self._known_engine()
        wanted = new_limits(spec.task, self._engine)
        try:
            await self._call(lambda api: _update(api, spec.name, wanted))
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            raise StartError(f"the engine refuses the new limits: {why(error)}") from error

    async def _known_engine(self) -> None:
        if not self._engine.cpus:
            await self.probe()
        if AT_BRIDGE in self._publish and not self._engine.gateway and not await self.gateway():
            raise StartError("this node publishes ports at the bridge network of its Docker engine, which has none")

    async def gateway(self) -> str:
        try:
            found = await self._call(docker_networks.gateway)
        except docker.errors.APIError as error:
            raise DriverUnavailableError(f"the engine cannot tell of its bridge network: {why(error)}") from error
        self._engine = replace(self._engine, gateway=found)
        return found

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
            raise DriverUnavailableError(f"cannot stop {name}: {why(error)}") from error

    async def remove(self, name: str) -> None:
        def remove(api: docker.APIClient) -> None:
            with contextlib.suppress(docker.errors.NotFound):
                api.remove_container(name, force=True, v=True)

        try:
            await self._call(remove)
        except docker.errors.APIError as error:
            if error.status_code != 409:  # 409: somebody removes it already
                raise DriverUnavailableError(f"cannot remove {name}: {why(error)}") from error

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
            return await self._call(lambda api: docker_found.inspect(api, name))
        except docker.errors.APIError as error:
            raise DriverUnavailableError(f"the engine cannot say what became of {name}: {why(error)}") from error

    async def list(self, cluster_id: str) -> tuple[Instance, ...]:
        def rows(api: docker.APIClient) -> Any:
            return api.containers(all=True, filters={"label": [f"{LABEL}cluster={cluster_id}"]})

        found: list[Instance] = []
        ended: dict[str, Instance] = {}
        asked = []
        try:
            listed = await self._call(rows)
        except docker.errors.APIError as error:
            raise DriverUnavailableError(f"the engine cannot list its containers: {why(error)}") from error
        if renamed := docker_found.renamed(listed, cluster_id):
            await self._call(lambda api: docker_found.name_again(api, renamed))
        for row in listed:
            known = self._ended.get(row["Id"])
            if row["State"] in ("created", "running"):  # no more is to be known of it
                run = run_of(row["Labels"])
                if run is not None:
                    name = row["Names"][0].lstrip("/")
                    found.append(instance(name, row["Id"], row["Labels"], run, row["State"], None))
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
        """Of starts only those of what had ended (they are somebody else's), and of calls that were given up, as a
        doubt about everything: nobody may know of those any more, nor of what has another name now. Each other start
        of ours would cost a look."""
        events = ["die", "destroy", "start", "rename"]
        filters = {"type": "container", "label": [f"{LABEL}cluster"], "event": events}
        died: set[str] = set()
        async for event in self._call.stream(lambda api: open_events(api, filters), first={}):
            actor, action = event.get("Actor", {}), event.get("Action", "")
            id_, name = actor.get("ID", ""), actor.get("Attributes", {}).get("name", "")
            if action == "rename" or (action == "start" and name in self._late):
                self._late.pop(name, None)
                yield ""
                continue
            if action == "start" and id_ not in died and id_ not in self._ended:
                continue
            if action == "die":
                died.add(id_)
            else:
                died.discard(id_)
            yield name
        raise DriverUnavailableError("the engine ended its events")

    def logs(self, name: str, *, follow: bool, tail_lines: int, offset: int) -> AsyncIterator[LogChunk]:
        return docker_output.read(self._call, name, follow=follow, tail_lines=tail_lines, offset=offset)

    # ------------------------------------------------------------------------ hands on it

    async def enter(self, name: str, command: Command) -> Entered:
        return await docker_hands.enter(name, command)

    async def copy_out(self, name: str, path: str) -> tuple[str, AsyncIterator[bytes]]:
        return await docker_hands.copy_out(name, path)

    async def copy_in(self, name: str, target: Target) -> tuple[str, Incoming]:
        return await docker_hands.copy_in(name, target)

    async def connect(self, name: str, port: int) -> Connection:
        return await docker_hands.connect(await in_time(self, docker_hands.facts_of(name)), port, self._reach)

    async def answer(self) -> None:
        await self._pulse()

    async def measure(self, instances: Sequence[Instance]) -> Mapping[str, Counters]:
        return await self._measured.measure(instances)

    def whose(self, pids: Sequence[int], instances: Sequence[Instance]) -> Mapping[int, str]:
        names = {one.runtime_id: one.name for one in instances}
        inside = docker_processes.containers_of(pids)
        return {pid: names[container] for pid, container in inside.items() if container in names}

    async def close(self) -> None:
        self._call.close()

    async def run_in(self, name: str, command: tuple[str, ...], *, timeout_ms: int) -> Ran:
        try:
            ran = await self._call(
                lambda api: docker_inside.execute(api, name, command, timeout_ms / 1000, self._hanging), slow=True
            )
        except docker.errors.NotFound:
            self._hanging.pop(name, None)
            return Ran(code=-1, output=f"{name} does not run")
        except docker.errors.APIError as error:
            return Ran(code=-1, output=why(error))  # stopped, paused, no such command
        if ran is None:
            raise TimeoutError
        return ran


# ---------------------------------------------------------------------------- blocking, in threads


def _update(api: docker.APIClient, name: str, limits: dict[str, int]) -> None:
    # The SDK's own call leaves NanoCpus out, and quota and period cannot be changed where that was set.
    response = api.post(
        f"{api.base_url}/v{api.api_version}/containers/{name}/update",
        json=limits,
        timeout=docker_calls.CALL_S,
    )
    check(response)


def _info(api: docker.APIClient) -> dict[str, Any]:
    response = api.get(f"{api.base_url}/v{api.api_version}/info", timeout=PROBE_S)
    check(response)
    found: dict[str, Any] = response.json()
    return found
