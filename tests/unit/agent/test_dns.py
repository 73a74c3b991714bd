"""DNS: any bytes are survived, and names mean what they should."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import socket
import struct
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.dns import hosts, listen, wire, zone
from agent.dns.bridge import BridgeDns
from agent.dns.server import DnsServer
from agent.dns.told import Told
from agent.dns.wire import Code, Malformed, Query, Type
from agent.dns.zone import Known
from agent.driver import DriverUnavailableError
from orchestrator.contract.errors import StartupError
from orchestrator.contract.model import AllocationId, Protocol, Service, ServiceInstance, ServiceName


def query_bytes(name: str, kind: int = Type.A, *, edns: int = 0, class_: int = 1, id_: int = 7) -> bytes:
    labels = [label.encode() for label in name.split(".") if label]
    data = wire.HEADER.pack(id_, 0x0100, 1, 0, 0, int(bool(edns)))
    data += b"".join(bytes((len(label),)) + label for label in labels) + b"\0" + struct.pack("!2H", kind, class_)
    if edns:
        data += b"\0" + struct.pack("!2HIH", Type.OPT, edns, 0, 0)
    return data


def instance(ordinal: int, address: str, port: int = 80, *, label: str = "http", udp: bool = False) -> ServiceInstance:
    return ServiceInstance(
        allocation=AllocationId(namespace="default", job="web", group="main", ordinal=ordinal),
        attempt=1,
        address=address,
        port=port,
        label=label,
        protocol=Protocol.UDP if udp else Protocol.TCP,
    )


WEB = Service(
    namespace="default",
    name="web",
    declared=True,
    instances=(instance(0, "10.0.0.1", 8001), instance(1, "10.0.0.2", 8002), instance(2, "fd00::1", 8003)),
)


class Asked:
    """A server without sockets, and what was looked up."""

    def __init__(self, *services: Service, age_ms: int = 0) -> None:
        self.known = {ServiceName(namespace=one.namespace, name=one.name): one for one in services}
        self.age_ms = age_ms
        self.names: list[ServiceName] = []
        self.server = DnsServer(self.lookup)

    async def lookup(self, name: ServiceName) -> Known | None:
        self.names.append(name)
        found = self.known.get(name) or Service(namespace=name.namespace, name=name.name)
        return Known(service=found, age_ms=self.age_ms)

    async def ask(self, name: str, kind: int = Type.A, *, udp: bool = True, **more: Any) -> Reply:
        return Reply(await self.server.answer(query_bytes(name, kind, **more), udp=udp))


class Reply:
    """What a resolver would read. The reader here is the tests' own: it follows pointers, which ours never does."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.id, self.flags, questions, *counts = wire.HEADER.unpack_from(data)
        self.code = self.flags & 0xF
        self.cut = bool(self.flags & 0x0200)
        self.authoritative = bool(self.flags & 0x0400)
        at = wire.HEADER.size
        self.question = b""
        for _ in range(questions):
            name, at = self._name(at)
            self.question = name
            at += 4
        self.sections: list[list[tuple[bytes, int, int, bytes]]] = []
        for count in counts:
            records = []
            for _ in range(count):
                name, at = self._name(at)
                kind, _, ttl, length = struct.unpack_from("!2HIH", data, at)
                at += 10
                records.append((name, kind, ttl, data[at : at + length]))
                at += length
            self.sections.append(records)
        assert at == len(data)

    def _name(self, at: int) -> tuple[bytes, int]:
        labels, end = [], 0
        while self.data[at]:
            if self.data[at] >= 0xC0:
                end = end or at + 2
                at = struct.unpack_from("!H", self.data, at)[0] & 0x3FFF
                continue
            labels.append(self.data[at + 1 : at + 1 + self.data[at]])
            at += 1 + self.data[at]
        return b".".join(labels), end or at + 1

    @property
    def addresses(self) -> set[str]:
        return {str(ipaddress.ip_address(data)) for _, kind, _, data in self.sections[0] if kind in (Type.A, Type.AAAA)}

    @property
    def targets(self) -> set[tuple[int, bytes]]:
        found = set()
        for _, kind, _, data in self.sections[0]:
            assert kind == Type.SRV
            labels, at = [], 6
            while data[at]:
                labels.append(data[at + 1 : at + 1 + data[at]])
                at += 1 + data[at]
            found.add((struct.unpack_from("!3H", data)[2], b".".join(labels)))
        return found


# ---------------------------------------------------------------------------- any bytes


@given(st.binary(max_size=600))
@example(query_bytes("web.service.raftsman")[:-3])
@example(wire.HEADER.pack(1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1")
@example(wire.HEADER.pack(1, 0, 1, 0, 0, 1) + b"\0\0\1\0\1" + b"\x3f" * 4)
def test_any_bytes_are_a_query_or_malformed(data: bytes) -> None:
    try:
        query = wire.read_query(data)
    except Malformed as error:
        assert error.id is None or error.id == int.from_bytes(data[:2], "big")
        return
    assert data[wire.HEADER.size :].startswith(query.question)


@given(st.data(), st.sampled_from([kind.value for kind in Type]))
def test_a_damaged_query_is_answered_or_dropped(data: st.DataObject, kind: int) -> None:
    """Through the whole server: what comes out reads as a message, whatever bytes were flipped."""
    raw = bytearray(query_bytes("web.service.raftsman", kind, edns=4096))
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    work = Asked(WEB).server.answer(bytes(raw), udp=True)
    with pytest.raises(StopIteration) as ended:
        work.send(None)
    answer = ended.value.value
    if answer:
        assert Reply(answer).id == int.from_bytes(raw[:2], "big")


NAMES = st.lists(st.binary(min_size=1, max_size=63), max_size=6).map(tuple)


@given(NAMES, st.integers(0, 65_535), st.integers(0, 5_000))
def test_no_name_and_no_size_breaks_an_answer(name: tuple[bytes, ...], kind: int, size: int) -> None:
    name = (*name, *zone.SERVICE)
    try:
        question = wire.encode_name(name) + struct.pack("!2H", kind, 1)
    except ValueError:
        return
    lowered = tuple(label.lower() for label in name)
    query = Query(id=3, recursion=True, name=lowered, type=kind, class_=1, question=question, udp_bytes=size)
    wanted = zone.target(query.name)
    answer = zone.own(query) if wanted is None else zone.answer(query, wanted, Known(service=WEB), {})
    written = wire.write(query, answer, limit=query.udp_limit)
    assert len(written) <= max(512, query.udp_limit)
    assert Reply(written).question == b".".join(name)


# ---------------------------------------------------------------------------- what is answered


async def test_addresses_of_each_kind_and_a_case_that_comes_back_as_it_was_asked() -> None:
    asked = Asked(WEB)
    found = await asked.ask("Web.SERVICE.raftsman")
    assert (found.code, found.addresses) == (Code.NOERROR, {"10.0.0.1", "10.0.0.2"})
    assert (found.question, found.authoritative, found.id) == (b"Web.SERVICE.raftsman", True, 7)
    assert (await asked.ask("web.default.service.raftsman", Type.AAAA)).addresses == {"fd00::1"}
    assert {one.namespace for one in asked.names} == {"default"}


async def test_srv_names_ports_and_brings_the_addresses_of_its_targets() -> None:
    asked = Asked(WEB)
    found = await asked.ask("web.service.raftsman", Type.SRV)
    assert {port for port, _ in found.targets} == {8001, 8002, 8003}
    name = next(name for port, name in found.targets if port == 8001)
    assert name == b"0a000001.addr.raftsman"
    assert {name for name, *_ in found.sections[2]} == {name for _, name in found.targets}
    assert (await asked.ask(name.decode())).addresses == {"10.0.0.1"}
    assert len(asked.names) == 1  # an address needs no look-up


async def test_a_port_is_chosen_by_its_label_and_protocol() -> None:
    game = Service(
        namespace="default",
        name="game",
        declared=True,
        instances=(instance(0, "10.0.0.1", 1, label="play", udp=True), instance(0, "10.0.0.1", 2, label="http")),
    )
    asked = Asked(game)
    assert {port for port, _ in (await asked.ask("_play._udp.game.service.raftsman", Type.SRV)).targets} == {1}
    assert {port for port, _ in (await asked.ask("_http._tcp.game.service.raftsman", Type.SRV)).targets} == {2}
    none = await asked.ask("_play._tcp.game.service.raftsman", Type.SRV)
    assert (none.code, none.sections[0]) == (Code.NOERROR, [])


async def test_nobody_offers_it_is_nxdomain_and_nobody_is_ready_is_nodata() -> None:
    asked = Asked(Service(namespace="default", name="slow", declared=True))
    absent, silent = await asked.ask("absent.service.raftsman"), await asked.ask("slow.service.raftsman")
    assert (absent.code, silent.code) == (Code.NXDOMAIN, Code.NOERROR)
    for found in (absent, silent):
        assert found.sections[0] == []
        ((name, kind, ttl, _),) = found.sections[1]
        assert (name, kind, ttl) == (b"raftsman", Type.SOA, zone.NO_TTL_S)
    assert (await asked.ask("service.raftsman")).code == Code.NOERROR
    assert (await asked.ask("a.b.c.service.raftsman")).code == Code.NXDOMAIN
    assert (await asked.ask("other.raftsman")).code == Code.NXDOMAIN


async def test_other_zones_are_refused_and_other_operations_are_not_implemented() -> None:
    asked = Asked(WEB)
    assert (await asked.ask("example.com")).code == Code.REFUSED
    assert (await asked.ask("web.service.raftsman", class_=3)).code == Code.REFUSED
    update = bytearray(query_bytes("web.service.raftsman"))
    update[2] |= 5 << 3
    assert Reply(await asked.server.answer(bytes(update), udp=True)).code == Code.NOTIMP
    answer = bytearray(query_bytes("web.service.raftsman"))
    answer[2] |= 0x80
    assert await asked.server.answer(bytes(answer), udp=True) == b""


async def test_what_does_not_fit_a_datagram_is_cut_and_whole_over_tcp() -> None:
    many = Service(
        namespace="default",
        name="many",
        declared=True,
        instances=tuple(instance(number, f"10.0.{number // 250}.{number % 250 + 1}") for number in range(300)),
    )
    asked = Asked(many)
    small = await asked.ask("many.service.raftsman")
    assert small.cut and len(small.data) <= 512
    larger = await asked.ask("many.service.raftsman", edns=4096)
    assert larger.cut and 512 < len(larger.data) <= wire.EDNS_BYTES
    whole = await asked.ask("many.service.raftsman", udp=False)
    assert not whole.cut and len(whole.addresses) == 300


async def test_an_old_answer_says_how_old_it_is_to_who_can_hear_it() -> None:
    asked = Asked(WEB, age_ms=42_000)
    heard = await asked.ask("web.service.raftsman", edns=1232)
    assert len(heard.addresses) == 2
    assert b"last confirmed 42 s ago" in heard.sections[2][0][3]
    assert b"last confirmed" not in (await asked.ask("web.service.raftsman")).data
    asked.age_ms = 0
    assert b"last confirmed" not in (await asked.ask("web.service.raftsman", edns=1232)).data


async def test_nodes_that_are_known_by_name_are_their_addresses_where_this_machine_knows_them() -> None:
    at = ("n1.example", "10.0.0.9", "n2.example", "n3.raftsman", "n1.example")
    instances = tuple(instance(number, address, 80 + number) for number, address in enumerate(at))
    asked = Asked(Service(namespace="default", name="web", declared=True, instances=instances))
    questions: list[str] = []

    def ask(name: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
        questions.append(name)
        return (ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("fd00::1")) if name == "n1.example" else ()

    asked.server = DnsServer(asked.lookup, ask=ask)
    assert (await asked.ask("web.service.raftsman")).addresses == {"10.0.0.1", "10.0.0.9"}
    assert (await asked.ask("web.service.raftsman", Type.AAAA)).addresses == {"fd00::1"}
    found = await asked.ask("web.service.raftsman", Type.SRV)
    assert (80, b"n1.example") in found.targets and (82, b"n2.example") in found.targets
    told = [name for name, kind, _, _ in found.sections[2] if kind in (Type.A, Type.AAAA)]
    assert sorted(told) == [b"0a000009.addr.raftsman", b"n1.example", b"n1.example"]
    assert sorted(questions) == ["n1.example", "n2.example"], "each once, and never one of our own zone"


async def test_a_resolver_that_does_not_answer_holds_up_one_answer_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosts, "PATIENCE_S", 0.05)
    named = Service(namespace="default", name="web", declared=True, instances=(instance(0, "n1.example", 9),))
    asked, hung, calls = Asked(named), threading.Event(), []

    def ask(name: str) -> tuple[ipaddress.IPv4Address]:
        calls.append(name)
        hung.wait(30)
        return (ipaddress.IPv4Address("10.0.0.1"),)

    asked.server = DnsServer(asked.lookup, ask=ask)
    for _ in range(2):
        assert [kind for _, kind, _, _ in (await asked.ask("web.service.raftsman")).sections[0]] == [Type.CNAME]
    assert calls == ["n1.example"], "nobody asks beside a question that is on its way"
    hung.set()
    async with asyncio.timeout(10):
        while not (await asked.ask("web.service.raftsman")).addresses:
            await asyncio.sleep(0.01)


async def test_a_node_that_is_known_by_name_and_not_to_this_machine_is_an_alias() -> None:
    named = Service(namespace="default", name="web", declared=True, instances=(instance(0, "n1.example", 9),))
    asked = Asked(named)
    asked.server = DnsServer(asked.lookup, ask=lambda _name: ())
    ((_, kind, _, data),) = (await asked.ask("web.service.raftsman")).sections[0]
    assert (kind, data) == (Type.CNAME, wire.encode_name((b"n1", b"example")))
    assert (await asked.ask("web.service.raftsman", Type.SRV)).targets == {(9, b"n1.example")}


async def test_nothing_known_is_a_failure_and_not_a_no() -> None:
    async def nobody(_name: ServiceName) -> Known | None:
        return None

    server = DnsServer(nobody)
    reply = Reply(await server.answer(query_bytes("web.service.raftsman", edns=1232), udp=True))
    assert (reply.code, reply.sections[0]) == (Code.SERVFAIL, [])


# ---------------------------------------------------------------------------- sockets


async def test_udp_and_tcp_on_one_port_and_other_names_passed_on() -> None:
    import asyncio

    above = Asked(Service(namespace="default", name="x", declared=True, instances=(instance(0, "10.9.9.9"),)))
    asked = Asked(WEB)
    first = await above.server.start("127.0.0.1", 0)
    # The resolver above answers only its own zone: what matters is that the question arrives and its answer comes back.
    asked.server = DnsServer(asked.lookup, upstream=("127.0.0.1", int(first.rpartition(":")[2])))
    own = await asked.server.start("127.0.0.1", 0)
    port = int(own.rpartition(":")[2])
    try:
        loop = asyncio.get_running_loop()
        answers: asyncio.Queue[bytes] = asyncio.Queue()

        class Client(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                answers.put_nowait(data)

        transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=("127.0.0.1", port))
        async with asyncio.timeout(10):
            transport.sendto(query_bytes("web.service.raftsman"))
            assert len(Reply(await answers.get()).addresses) == 2
            transport.sendto(query_bytes("example.com", id_=99))
            passed = Reply(await answers.get())
            assert (passed.id, passed.code, passed.question) == (99, Code.REFUSED, b"example.com")
            assert above.server.answered == 1
            transport.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(2):  # one connection, several questions
                data = query_bytes("web.service.raftsman", Type.SRV)
                writer.write(struct.pack("!H", len(data)) + data)
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                assert len(Reply(await reader.readexactly(length)).targets) == 3
            writer.close()
            await writer.wait_closed()
    finally:
        await asked.server.close()
        await above.server.close()


async def test_a_free_port_is_one_that_is_free_for_both_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    really, taken = loop.create_datagram_endpoint, 2

    async def create(*arguments: Any, **options: Any) -> Any:
        nonlocal taken
        taken -= 1
        if taken >= 0:
            raise OSError(98, "Address already in use")
        return await really(*arguments, **options)

    async def nobody(_name: ServiceName) -> Known | None:
        return None

    monkeypatch.setattr(loop, "create_datagram_endpoint", create)
    server = DnsServer(nobody)
    assert (await server.start("127.0.0.1", 0)).startswith("127.0.0.1:")
    await server.close()
    taken = 1
    with pytest.raises(OSError, match="in use"):
        await DnsServer(nobody).start("127.0.0.1", 5_399)


# ---------------------------------------------------------------------------- at the bridge


class AtBridge:
    """One agent's share in the address, which is a loopback one here."""

    def __init__(self, port: int, cluster_id: str = "one", address: str = "127.0.0.1") -> None:
        self.address: str | Exception = address
        self.asked = 0
        self.server = DnsServer(Asked(WEB).lookup, cluster_id=lambda: cluster_id)
        self.dns = BridgeDns(self.server, self.find, cluster_id=lambda: cluster_id, machine=False, port=port)

    async def find(self) -> str:
        self.asked += 1
        if isinstance(self.address, Exception):
            raise self.address
        return self.address


def free_port() -> int:
    """For both protocols."""
    for _ in range(100):
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):
                udp.bind(tcp.getsockname())
                port: int = tcp.getsockname()[1]
                return port
    raise AssertionError("no port is free for both protocols")


@contextlib.asynccontextmanager
async def at_bridge(*cluster_ids: str) -> AsyncIterator[list[AtBridge]]:
    port = free_port()
    made = [AtBridge(port, one) for one in cluster_ids]
    try:
        yield made
    finally:
        for one in made:
            await one.server.close()


async def test_agents_of_one_cluster_share_the_address_and_the_next_has_it_when_the_first_ends() -> None:
    async with at_bridge("ONE", "ONE") as (first, second):
        assert await first.dns.take() and not await second.dns.take()
        assert await first.dns.resolver() == await second.dns.resolver() == "127.0.0.1"
        assert first.server.answered == 1, "the second asked whether it is one of its own"
        trying = asyncio.create_task(second.dns.keep_trying())
        await first.server.close()
        async with asyncio.timeout(30):
            await trying
        assert await second.dns.take()
        third = AtBridge(second.dns._port, "ONE")
        assert await third.dns.resolver() == "127.0.0.1"
        assert second.server.answered == 1


async def test_nobody_is_sent_to_another_clusters_dns_or_to_a_strangers() -> None:
    async with at_bridge("one", "two", "") as (first, second, unnamed):
        assert await first.dns.take()
        assert await second.dns.resolver() == ""
        assert await unnamed.dns.resolver() == "", "it does not know yet whose it is"
    async with at_bridge("one", "one") as (mine, _):
        stranger = DnsServer(Asked(WEB).lookup)  # of no cluster, like a resolver that somebody runs there
        await stranger.start("127.0.0.1", mine.dns._port)
        try:
            assert await mine.dns.resolver() == ""
            assert stranger.answered == 1
        finally:
            await stranger.close()


async def test_an_engine_that_is_down_or_has_another_bridge_is_asked_again() -> None:
    async with at_bridge("one") as (agent,):
        agent.address = DriverUnavailableError("the engine does not answer")
        assert await agent.dns.resolver() == ""
        agent.address = "192.0.2.77"  # of no interface of this machine
        assert await agent.dns.resolver() == ""
        agent.address = "127.0.0.1"
        assert await agent.dns.resolver() == "127.0.0.1"
        assert agent.asked == 3


async def test_a_clusters_name_is_there_without_addresses() -> None:
    server = DnsServer(Asked(WEB).lookup, cluster_id=lambda: "Ab-1")
    for name, code in (("ab-1.cluster.raftsman", Code.NOERROR), ("x.cluster.raftsman", Code.NXDOMAIN)):
        reply = Reply(await server.answer(query_bytes(name), udp=True))
        assert (reply.code, reply.sections[0]) == (code, [])
    assert not wire.exists(await server.answer(query_bytes("example.com"), udp=True)), "no authority for it"


# ---------------------------------------------------------------------------- what an operator says


async def test_where_it_listens_and_whom_containers_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(listen, "PORT", port)  # an ordinary user may not have 53
    monkeypatch.setattr(listen, "USUAL", ("127.0.0.1", port))
    monkeypatch.setattr(listen, "system_resolver", lambda: None)
    there = listen.Bridge(address=AtBridge(port).find, machine=False, cluster_id=lambda: "one")
    bridge = Told(address=f"127.0.0.1:{port}", resolver="127.0.0.1")
    for where, upstream, told in (
        ("off", "", Told()),
        ("auto", "", Told(address=f"127.0.0.1:{port}")),
        (f"127.0.0.1:{port}", "127.0.0.9:53", Told(address=f"127.0.0.1:{port}")),  # loopback: each has its own
    ):
        async with contextlib.AsyncExitStack() as stack:
            telling = await listen.serve_dns(stack, where, upstream, Asked(WEB).lookup, there)
            assert await telling() == told, where
        await asyncio.sleep(0)  # its socket closes in the next turn
    async with contextlib.AsyncExitStack() as stack:
        telling = await listen.serve_dns(stack, f"localhost:{port}", "", Asked(WEB).lookup, there)
        assert (await telling()).address in (f"127.0.0.1:{port}", f"[::1]:{port}")
    await asyncio.sleep(0)
    async with contextlib.AsyncExitStack() as stack:
        monkeypatch.setattr(listen, "BridgeDns", functools.partial(BridgeDns, port=port))
        telling = await listen.serve_dns(stack, "bridge", "", Asked(WEB).lookup, there)
        assert await telling() == bridge


@pytest.mark.parametrize(
    ("where", "upstream", "with_bridge", "said"),
    [
        ("bridge", "", False, "takes --driver docker"),
        ("bridge", "127.0.0.1:53", True, "this agent's own --dns"),
        ("bridge", "system", True, "names no nameserver"),
        ("127.0.0.1:5399", "127.0.0.1:5399", False, "this agent's own --dns"),
        ("203.0.113.7:5399", "", False, "cannot listen on --dns 203.0.113.7:5399"),
        ("no.such.host.invalid:5399", "", False, "cannot listen on --dns no.such.host.invalid:5399"),
    ],
)
async def test_what_cannot_be_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, where: str, upstream: str, with_bridge: bool, said: str
) -> None:
    monkeypatch.setattr(listen, "system_resolver", lambda: None)
    bridge = listen.Bridge(address=AtBridge(1).find, machine=False, cluster_id=lambda: "one") if with_bridge else None
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(StartupError, match=said):
            await listen.serve_dns(stack, where, upstream, Asked(WEB).lookup, bridge)
