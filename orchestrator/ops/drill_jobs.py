"""What a drill runs on the cluster: a service under load, and a small job after each strike.

Owns: their specs for every driver, and where they answer. The rule: the cheapest thing that shows the truth, since a
drill should load the control plane and not the machine.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.client.aio import Client
from orchestrator.contract.errors import NotFoundError, PreconditionError
from orchestrator.contract.model import (
    Allocation,
    AllocState,
    Constraint,
    ConstraintOperator,
    GroupSpec,
    JobSpec,
    JobType,
    NodeStatus,
    PortSpec,
    Resources,
    RestartPolicy,
    StopPolicy,
    TaskSpec,
)
from orchestrator.ops.engine import Engine, EngineError
from orchestrator.ops.images import find_or_make

SERVICE = "-web"
"""How the name of a drill's service ends."""
GROUP = "main"
PORT = "http"
CONTAINER_PORT = 8080
RESTART = RestartPolicy(attempts=100, delay_ms=1_000)
"""What a drill makes restart should be back soon, however many rounds there are."""
RESOURCES = Resources(cpu_millis=20, memory_mib=32)
SERVE = f"""
mkdir -p /tmp/www && echo ok > /tmp/www/index.html
if busybox --list 2>/dev/null | grep -qx httpd; then exec busybox httpd -f -p {CONTAINER_PORT} -h /tmp/www; fi
if command -v python3 >/dev/null; then exec python3 -m http.server {CONTAINER_PORT} --directory /tmp/www; fi
echo "this image has neither busybox httpd nor python3: give another with --image" >&2; exit 1
"""
"""Answers HTTP in whatever small image there is."""
SERVICE_SCRIPT = Path(__file__).with_name("drill_service.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """``driver``: docker, process or fake; ``image`` for docker; ``records`` for processes (``drill_service``)."""

    driver: str
    image: str = ""
    records: Path = Path()

    @property
    def answers_http(self) -> bool:
        return self.driver != "fake"

    def service(self, name: str, count: int) -> JobSpec:
        """``count`` instances that answer HTTP on the port labelled ``http``."""
        ports = (PortSpec(label=PORT, to=CONTAINER_PORT if self.driver == "docker" else 0),)
        return self._job(name, count, ("sh", "-c", SERVE), ports=ports, placement="spread")

    def probe(self, name: str, node: str = "") -> JobSpec:
        """One instance that does nothing, on ``node`` if that is given."""
        constraints: tuple[Constraint, ...] = ()
        if node:
            constraints = (Constraint(attribute="node.name", operator=ConstraintOperator.EQUAL, values=(node,)),)
        return self._job(name, 1, ("sleep", "86400"), constraints=constraints)

    def _job(
        self,
        name: str,
        count: int,
        in_container: tuple[str, ...],
        *,
        ports: tuple[PortSpec, ...] = (),
        placement: str = "",
        constraints: tuple[Constraint, ...] = (),
    ) -> JobSpec:
        command = in_container
        if self.driver == "process":
            # -I and -S: the service is standard library only, and should start as fast as it can.
            command = (sys.executable, "-I", "-S", str(SERVICE_SCRIPT), str(self.records))
        task = TaskSpec(
            name=GROUP,
            driver=self.driver,
            image=self.image if self.driver == "docker" else "",
            command=command,
            resources=RESOURCES,
            stop=StopPolicy(timeout_ms=1_000),
        )
        group = GroupSpec(name=GROUP, count=count, tasks=(task,), ports=ports, restart=RESTART)
        return JobSpec(
            name=name, type=JobType.SERVICE, groups=(group,), placement=placement, constraints=constraints, priority=50
        )


def address_of(allocation: Allocation) -> str:
    """``host:port`` of the service instance, "" when it has none."""
    port = next((port.host_port for port in allocation.ports if port.label == PORT), 0)
    return f"{allocation.node_address or '127.0.0.1'}:{port}" if port else ""


def running(allocations: Iterable[Allocation]) -> list[Allocation]:
    return [allocation for allocation in allocations if allocation.state is AllocState.RUNNING]


async def choose_workload(client: Client, say: Callable[[str], None], *, image: str = "") -> Workload:
    """Docker where every ready node has it and an image can be had, else processes; ``say`` hears which.

    Raises ``PreconditionError`` when nothing fits, ``NotFoundError`` when ``image`` was asked for and cannot be had.
    """
    nodes = [node for node in (await client.list_nodes()).nodes if node.status is NodeStatus.READY]
    if not nodes:
        raise PreconditionError("the cluster has no ready node to run a service on; start an agent")
    drivers = set.intersection(*(set(node.spec.drivers) for node in nodes))
    if "docker" in drivers:
        try:
            async with Engine() as engine:
                found = await find_or_make(engine, image)
            say(f"tasks run in Docker: {found.how}")
            return Workload(driver="docker", image=found.name)
        except (EngineError, NotFoundError) as error:
            if image or drivers == {"docker"}:
                raise
            say(f"not in Docker: {error.message}")
    if image:
        raise PreconditionError(f"image {image}: not every node has Docker to run it; leave the image out, or start it")
    for driver in ("process", "fake"):
        if driver in drivers:
            say(
                f"tasks run as plain processes (driver {driver})" if driver == "process" else "tasks are only pretended"
            )
            return Workload(driver=driver, records=Path(tempfile.gettempdir()) / f"raftsman-{secrets.token_hex(6)}")
    raise PreconditionError(f"no driver that a drill can use is on every node; they have {', '.join(sorted(drivers))}")
