"""``namespace`` and ``settings``: who may ask for how much, and how the cluster behaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.output import show, table
from orchestrator.cli.session import Session, common
from orchestrator.contract.errors import NotFoundError

if TYPE_CHECKING:
    from orchestrator.contract.answers import NamespaceList, NamespaceStatus
    from orchestrator.contract.model import Quota

RESOURCES = {
    "cpu": "cpu_millis", "memory": "memory_mib", "disk": "disk_mib", "gpus": "gpu_millis", "jobs": "jobs",
    "allocations": "allocations",
}  # fmt: skip
"""What users call the fields of a quota."""
LIFTED = ("none", "unlimited")
_QUOTA_HELP = "Such as cpu=8,memory=16Gi,gpus=2,jobs=10,allocations=100; 'none' for no limit. May be repeated."


@click.group()
def namespace() -> None:
    """Namespaces: quotas on what the jobs in them may ask for, and what they use."""


def parse_quota(texts: tuple[str, ...], *, change: bool) -> Quota:
    """``cpu=8,memory=16Gi``; raises click.UsageError. ``change``: 'none' is -1, which lifts a limit."""
    from orchestrator.contract.model import Quota
    from orchestrator.jobfile import units

    given: dict[str, int] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        name, equals, value = part.partition("=")
        field = RESOURCES.get(name.strip())
        if field is None or not equals or not value.strip():
            raise click.UsageError(f"{part!r}: expected RESOURCE=AMOUNT, with one of {', '.join(RESOURCES)}")
        value = value.strip()
        if field in given:
            raise click.UsageError(f"{name.strip()!r} is there twice")
        try:
            if value in LIFTED:
                if change:
                    given[field] = -1
            elif field in ("cpu_millis", "gpu_millis"):
                given[field] = units.parse_cpu(value) if field == "cpu_millis" else units.parse_share(value)
            elif field in ("memory_mib", "disk_mib"):
                given[field] = units.parse_memory(value)
            elif value.isdecimal() and len(value) <= 15:
                given[field] = int(value)
            else:
                raise ValueError(f"expected a whole number, got {value!r}")
        except ValueError as error:
            raise click.UsageError(f"{part!r}: {error}") from None
    return Quota(**given)


def amount(field: str, value: int) -> str:
    from orchestrator.jobfile import units

    if field == "cpu_millis":
        return units.format_cpu(value)
    if field in ("memory_mib", "disk_mib"):
        return units.format_memory(value) if value else "0"
    return f"{value / 1000:g}" if field == "gpu_millis" else str(value)


def _of(status: NamespaceStatus, field: str) -> str:
    """``6 of 8``, or ``6`` where there is no limit."""
    limit = getattr(status.namespace.quota, field)
    used = amount(field, getattr(status.used, field))
    return used if limit is None else f"{used} of {amount(field, limit)}"


@namespace.command(name="list")
@common
def list_(session: Session) -> None:
    """Every namespace that was created or that holds something."""
    with session.client() as client:
        answer: NamespaceList = client.list_namespaces()
    session.warn_if_stale(answer.read)

    def text(wide: bool) -> str:
        rows = [
            [
                one.namespace.name,
                "yes" if one.namespace.create_index else "",
                *(_of(one, f) for f in RESOURCES.values()),
            ]
            for one in answer.namespaces
        ]
        return table(["NAMESPACE", "CREATED", *(name.upper() for name in RESOURCES)], rows)

    names = [one.namespace.name for one in answer.namespaces]
    show(session.output, value=lambda: list(answer.namespaces), names=lambda: names, table=text)


@namespace.command(name="show")
@common
@click.argument("name")
def show_(session: Session, name: str) -> None:
    """The quota of NAME, and what its jobs ask for."""
    with session.client() as client:
        answer: NamespaceList = client.list_namespaces()
    session.warn_if_stale(answer.read)
    found = next((one for one in answer.namespaces if one.namespace.name == name), None)
    if found is None:
        raise NotFoundError(f"no namespace '{name}'; 'raftsman namespace list' shows those that there are")
    status = found

    def left(field: str) -> str:
        limit = getattr(status.namespace.quota, field)
        return "" if limit is None else amount(field, max(0, limit - getattr(status.used, field)))

    def text(wide: bool) -> str:
        rows: list[list[Any]] = []
        for word, field in RESOURCES.items():
            limit = getattr(status.namespace.quota, field)
            used = amount(field, getattr(status.used, field))
            rows.append([word, used, "" if limit is None else amount(field, limit), left(field)])
        return table(["RESOURCE", "USED", "QUOTA", "LEFT"], rows)

    show(session.output, value=lambda: status, names=lambda: [name], table=text)


@namespace.command()
@common
@click.argument("name")
@click.option("--quota", "quotas", multiple=True, metavar="RESOURCE=AMOUNT,...", help=_QUOTA_HELP)
def create(session: Session, name: str, quotas: tuple[str, ...]) -> None:
    """Create NAME, with a quota or without."""
    quota = parse_quota(quotas, change=False)
    with session.client() as client:
        result = client.create_namespace(name, quota)
    session.note(f"{name}: created" if result.changed else f"{name}: exists already, with this quota")


@namespace.command(name="set")
@common
@click.argument("name")
@click.option("--quota", "quotas", multiple=True, required=True, metavar="RESOURCE=AMOUNT,...", help=_QUOTA_HELP)
def set_(session: Session, name: str, quotas: tuple[str, ...]) -> None:
    """Change the quota of NAME; what is not named stays. A quota below what is in use refuses growth, nothing else."""
    quota = parse_quota(quotas, change=True)
    with session.client() as client:
        result = client.set_namespace(name, quota)
    session.note(f"{name}: quota changed" if result.changed else f"{name}: nothing to change")


@namespace.command()
@common
@click.argument("name")
def delete(session: Session, name: str) -> None:
    """Delete NAME and its quota; it must hold no jobs and no variables."""
    with session.client() as client:
        client.delete_namespace(name)
    session.note(f"{name}: deleted")


# ---------------------------------------------------------------------------- settings

_MEANING = {
    "preemption": "jobs of higher priority may have lower ones stopped to make room",
    "strict_namespaces": "only namespaces that were created may be used",
}
_WORDS = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}


@click.group()
def settings() -> None:
    """How the cluster behaves; the settings are replicated and hold on every peer."""


@settings.command()
@common
def get(session: Session) -> None:
    """Show the settings."""
    with session.client() as client:
        answer = client.get_settings()
    session.warn_if_stale(answer.read)
    now = answer.settings

    def text(wide: bool) -> str:
        rows = [[name, "on" if getattr(now, name) else "off", meaning] for name, meaning in _MEANING.items()]
        return table(["SETTING", "VALUE", "MEANING"], rows)

    show(session.output, value=lambda: now, names=lambda: list(_MEANING), table=text)


@settings.command(name="set")
@common
@click.argument("changes", nargs=-1, required=True, metavar="SETTING=on|off...")
def set_settings(session: Session, changes: tuple[str, ...]) -> None:
    """Change settings, for example preemption=off."""
    from orchestrator.contract.model import SettingsChange

    given: dict[str, bool] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in _MEANING or value.lower() not in _WORDS:
            raise click.UsageError(f"{change!r}: expected SETTING=on or SETTING=off, with one of {', '.join(_MEANING)}")
        given[name] = _WORDS[value.lower()]
    with session.client() as client:
        result = client.set_settings(SettingsChange(**given))
    for name, on in given.items():
        session.note(f"{name}: {'on' if on else 'off'}" + ("" if result.changed else " (as it was)"))
