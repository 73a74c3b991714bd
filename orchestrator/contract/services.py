"""Names of services: what a group offers, what it needs, and what they are called in the environment.

Owns: the default name and port, ``NAME[.NAMESPACE]``, the names of variables. Leaves to others: who is ready
(``state.services``), the checks of a job (``jobfile.check``), answers in DNS (``agent.dns``). The rule: a default name
depends on nothing but the names of job and group, so a second group changes no name.
"""

from __future__ import annotations

from orchestrator.contract.model import GroupSpec, ServiceName, ServiceSpec

MAIN = "main"
"""A group of this name goes without it."""
ENV_INSTANCES = 64
"""At most so many instances of a needed service are written into the environment of who needs it."""


def default_name(job: str, group: str) -> str:
    """``web`` for group ``main`` of job ``web``, else ``web-api``. Runs of a template go by the template's name."""
    job = job.partition("/")[0]
    return job if group == MAIN else f"{job}-{group}"


def offered(job: str, group: GroupSpec) -> tuple[ServiceSpec, ...]:
    """What a group offers, names and ports filled in. A group with ports that declares nothing offers its first one."""
    if not group.ports:
        return ()
    first = group.ports[0].label
    name = default_name(job, group.name)
    if not group.services:
        return (ServiceSpec(name=name, port=first),)
    return tuple(ServiceSpec(name=one.name or name, port=one.port or first) for one in group.services)


def parse_need(text: str, namespace: str) -> ServiceName:
    """``db`` in ``namespace``, or ``db.other``."""
    name, _, other = text.partition(".")
    return ServiceName(namespace=other or namespace, name=name)


def env_name(text: str) -> str:
    """``my-db`` as a part of a variable's name: ``MY_DB``."""
    return "".join(character if character.isalnum() else "_" for character in text.upper())
