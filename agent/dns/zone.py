"""What names in ``raftsman.`` mean, and the answers to them. No I/O.

Owns: ``[_LABEL._PROTO.]NAME[.NAMESPACE].service.raftsman``, ``HEX.addr.raftsman`` (the target of SRV records whose
instance has an address and no name), ``ID.cluster.raftsman``; the order of instances, which changes with every answer;
NXDOMAIN (nobody offers it) and NODATA (somebody does, but nobody is ready, or not with such an address). Leaves to
others: what is known of a service (``agent.discovery``). The rule: a name is in this zone or it is refused.
"""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.dns import wire
from agent.dns.wire import Answer, Code, Extended, Labels, Query, Resource, Type
from orchestrator.contract.model import DEFAULT_NAMESPACE, Protocol, Service, ServiceInstance, ServiceName

ROOT: Labels = (b"raftsman",)
SERVICE: Labels = (b"service", *ROOT)
ADDR: Labels = (b"addr", *ROOT)
CLUSTER: Labels = (b"cluster", *ROOT)
"""``ID.cluster.raftsman`` is there, without addresses, at the agents of that cluster: so one knows another."""
TTL_S = 5
NO_TTL_S = 2
STALE_MS = 10_000
"""Older than that an answer says that it is."""
MOST = 1_000
"""Instances in one answer; over UDP fewer fit."""
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?")
_PROTOCOLS = {b"_tcp": Protocol.TCP, b"_udp": Protocol.UDP}

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Shuffle = Callable[[list[ServiceInstance]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Of a name in the zone that needs to be looked up. ``label``: of a port, "" = any."""

    service: ServiceName
    label: str = ""
    protocol: Protocol | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a service, and for how long nobody confirmed it."""

    service: Service
    age_ms: int = 0


def inside(name: Labels) -> bool:
    return name[-1:] == ROOT


def target(name: Labels) -> Target | None:
    """What to look up; None: the zone itself has the answer (``own``)."""
    if name[-2:] != SERVICE or len(name) == 2:
        return None
    rest = name[:-2]
    label, protocol = "", None
    if rest[0].startswith(b"_"):
        if len(rest) < 3 or rest[1] not in _PROTOCOLS:
            return None
        label, protocol = rest[0][1:].decode("latin-1"), _PROTOCOLS[rest[1]]
        rest = rest[2:]
    if len(rest) > 2 or any(one.startswith(b"_") for one in rest):
        return None
    words = [one.decode("latin-1") for one in rest]
    namespace = words[1] if len(words) == 2 else DEFAULT_NAMESPACE
    return Target(service=ServiceName(namespace=namespace, name=words[0]), label=label, protocol=protocol)


def own(query: Query, cluster_id: str = "") -> Answer:
    """To a name of the zone that is no service's."""
    name = query.name
    if name == ROOT and query.type in (Type.SOA, Type.ANY):
        return Answer(answers=(wire.authority(ROOT, ttl_s=TTL_S),))
    if name in (ROOT, SERVICE, ADDR, CLUSTER) or (cluster_id and name == (cluster_id.lower().encode(), *CLUSTER)):
        return _none(Code.NOERROR)
    if name[1:] == ADDR:
        ip = _hex_address(name[0])
        if ip is not None:
            return _addresses(query, [ip]) or _none(Code.NOERROR)
    return _none(Code.NXDOMAIN)


def hosts(known: Known) -> set[str]:
    """Names of nodes of which addresses are wanted. One of this zone is asked of nobody: it would be asked of us."""
    return {
        one.address
        for one in known.service.instances
        if _ip(one.address) is None and (labels := _host(one.address)) and labels[-1:] != ROOT
    }


def answer(
    query: Query,
    wanted: Target,
    known: Known | None,
    hosts: Mapping[str, Sequence[Ip]],
    shuffle: Shuffle = random.shuffle,
) -> Answer:
    """``known`` None: nobody could be asked; ``hosts``: addresses of nodes that are known by a name, where known."""
    if known is None:
        why = "no peer has answered yet, and nothing is known from before"
        return Answer(code=Code.SERVFAIL, extended=(Extended.NOT_READY, why))
    made = _answer(query, wanted, known.service, hosts, shuffle)
    if known.age_ms <= STALE_MS:
        return made
    text = f"last confirmed {known.age_ms // 1000} s ago"
    return Answer(
        code=made.code,
        answers=made.answers,
        authority=made.authority,
        additional=made.additional,
        extended=(Extended.STALE_ANSWER, text),
    )


def _answer(
    query: Query, wanted: Target, service: Service, hosts: Mapping[str, Sequence[Ip]], shuffle: Shuffle
) -> Answer:
    if not service.declared and not service.instances:
        return _none(Code.NXDOMAIN)
    chosen = [one for one in service.instances if _matches(one, wanted, service.name)]
    shuffle(chosen)
    chosen = chosen[:MOST]
    if query.type == Type.SRV:
        return _services(chosen, hosts) or _none(Code.NOERROR)
    ips = list(dict.fromkeys(ip for one in chosen for ip in _ips(one, hosts)))
    found = _addresses(query, ips)
    if found is None and not ips and query.type in (Type.A, Type.AAAA, Type.CNAME, Type.ANY):
        # Its node is known by a name, and not to us: the resolver may ask on, and an alias can only be one.
        host = next((labels for one in chosen if (labels := _host(one.address))), None)
        if host is not None:
            found = Answer(answers=(Resource(type=Type.CNAME, ttl_s=TTL_S, data=wire.encode_name(host)),))
    return found or _none(Code.NOERROR)


def _matches(one: ServiceInstance, wanted: Target, name: str) -> bool:
    if wanted.protocol is not None and one.protocol is not wanted.protocol:
        return False
    return wanted.label in ("", one.label.lower(), name)


def _addresses(query: Query, ips: Sequence[Ip]) -> Answer | None:
    kinds = {Type.A: (4,), Type.AAAA: (6,), Type.ANY: (4, 6)}.get(Type(query.type), ()) if _known(query.type) else ()
    records = [wire.address(ip, ttl_s=TTL_S) for ip in ips if ip.version in kinds]
    return Answer(answers=records) if records else None


def _services(chosen: Sequence[ServiceInstance], hosts: Mapping[str, Sequence[Ip]]) -> Answer | None:
    records: list[Resource] = []
    more: dict[Labels, list[Resource]] = {}
    for one in chosen:
        ip = _ip(one.address)
        if ip is not None:
            name: Labels | None = (ip.packed.hex().encode(), *ADDR)
        else:
            name = _host(one.address)
        if name is None:
            continue
        records.append(wire.service(one.port, name, ttl_s=TTL_S))
        more[name] = [wire.address(one_ip, ttl_s=TTL_S, name=name) for one_ip in _ips(one, hosts)]
    additional = tuple(one for same in more.values() for one in same)
    return Answer(answers=records, additional=additional) if records else None


def _ips(one: ServiceInstance, hosts: Mapping[str, Sequence[Ip]]) -> Sequence[Ip]:
    ip = _ip(one.address)
    return hosts.get(one.address, ()) if ip is None else (ip,)


def _none(code: Code) -> Answer:
    return Answer(code=code, authority=(wire.authority(ROOT, ttl_s=NO_TTL_S),))


def _known(number: int) -> bool:
    return number in Type._value2member_map_


def _ip(text: str) -> Ip | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _host(text: str) -> Labels | None:
    if len(text) > 253 or not _HOST.fullmatch(text):
        return None
    return tuple(label.encode() for label in text.rstrip(".").split("."))


def _hex_address(label: bytes) -> Ip | None:
    if len(label) not in (8, 32) or not re.fullmatch(rb"[0-9a-f]+", label):
        return None
    return ipaddress.ip_address(bytes.fromhex(label.decode()))
