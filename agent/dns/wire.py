"""DNS messages as bytes: queries read, answers written (RFC 1035, 2782, 6891, 8914).

Owns: the wire format, as far as an authoritative server of addresses needs it. Leaves to others: what is answered
(``zone``), sockets (``server``). The rule: any bytes may come. Reading gives a ``Query`` or raises ``Malformed``,
never anything else, and its work is bounded by the size of the message: nothing that is read follows a pointer.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Labels = tuple[bytes, ...]
"""Of a name, without the root."""

HEADER = struct.Struct("!6H")
NAME_MAX = 255
MAX_BYTES = 65_535
MOST_RECORDS = 64
"""A query with more records than that beside its question is none."""
CLASS_IN = 1
CLASS_ANY = 255
EDNS_BYTES = 1_232
"""What we say and use at most over UDP: larger datagrams may be fragmented."""
PLAIN_BYTES = 512
POINTER_TO_QUESTION = b"\xc0\x0c"


class Type(enum.IntEnum):
    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    ANY = 255


class Code(enum.IntEnum):
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Extended(enum.IntEnum):
    """Codes of extended errors (RFC 8914)."""

    STALE_ANSWER = 3
    NOT_READY = 14


class Malformed(Exception):
    """Not a query. ``id`` None: not even worth an answer."""

    def __init__(self, id_: int | None, code: Code = Code.FORMERR) -> None:
        super().__init__(f"malformed query {id_}")
        self.id = id_
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question. ``name`` is in lower case; ``question`` its bytes as they came: it is answered in the case that it
    was asked in. ``udp_bytes`` 0: no EDNS."""

    id: int
    recursion: bool
    name: Labels
    type: int
    class_: int
    question: bytes
    udp_bytes: int = 0

    @property
    def udp_limit(self) -> int:
        return max(PLAIN_BYTES, min(self.udp_bytes, EDNS_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A record of class IN. ``name`` None: that of the question."""

    type: Type
    ttl_s: int
    data: bytes
    name: Labels | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``extended``: code and text, told to who speaks EDNS."""

    code: Code = Code.NOERROR
    authoritative: bool = True
    answers: Sequence[Resource] = ()
    authority: Sequence[Resource] = ()
    additional: Sequence[Resource] = ()
    extended: tuple[Extended, str] | None = None


# ---------------------------------------------------------------------------- reading


def read_query(data: bytes) -> Query:
    if len(data) < HEADER.size or len(data) > MAX_BYTES:
        raise Malformed(None)
    id_, flags, questions, answers, authorities, additionals = HEADER.unpack_from(data)
    if flags & 0x8000:
        raise Malformed(None)  # an answer: answering it could go on for ever
    if flags >> 11 & 0xF:
        raise Malformed(id_, Code.NOTIMP)
    if questions != 1 or answers + authorities + additionals > MOST_RECORDS:
        raise Malformed(id_)
    name, at = _read_name(data, HEADER.size, id_)
    if at + 4 > len(data):
        raise Malformed(id_)
    type_, class_ = struct.unpack_from("!2H", data, at)
    at += 4
    question = data[HEADER.size : at]
    udp_bytes, seen = 0, False
    for _ in range(answers + authorities + additionals):
        at = _skip_name(data, at, id_)
        if at + 10 > len(data):
            raise Malformed(id_)
        kind, size, ttl, length = struct.unpack_from("!2HIH", data, at)
        at += 10 + length
        if at > len(data):
            raise Malformed(id_)
        if kind == Type.OPT:
            if seen:
                raise Malformed(id_)
            if ttl >> 16 & 0xFF:
                raise Malformed(id_, Code.BADVERS)
            seen, udp_bytes = True, max(size, PLAIN_BYTES)
    return Query(
        id=id_,
        recursion=bool(flags & 0x0100),
        name=tuple(label.lower() for label in name),
        type=type_,
        class_=class_,
        question=question,
        udp_bytes=udp_bytes,
    )


def _read_name(data: bytes, at: int, id_: int) -> tuple[Labels, int]:
    labels: list[bytes] = []
    size = 1
    while True:
        if at >= len(data):
            raise Malformed(id_)
        length = data[at]
        at += 1
        if length == 0:
            return tuple(labels), at
        if length > 63 or at + length > len(data):  # a pointer in a question points at nothing sensible
            raise Malformed(id_)
        labels.append(data[at : at + length])
        at += length
        size += length + 1
        if size > NAME_MAX:
            raise Malformed(id_)


def _skip_name(data: bytes, at: int, id_: int) -> int:
    while at < len(data):
        length = data[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        if length > 63:
            break
        at += 1 + length
    raise Malformed(id_)


# ---------------------------------------------------------------------------- writing


def question(name: Labels, id_: int) -> bytes:
    """A query for the addresses of ``name``. Raises ValueError for what is no name."""
    return HEADER.pack(id_, 0, 1, 0, 0, 0) + encode_name(name) + struct.pack("!2H", Type.A, CLASS_IN)


def exists(data: bytes) -> bool:
    """Whether an answer is of an authority for the name, and says that there is one."""
    flags = HEADER.unpack_from(data)[1]
    return bool(flags & 0x0400) and flags & 0xF == Code.NOERROR


def write_error(id_: int, code: Code) -> bytes:
    """An answer to what could not be read."""
    return HEADER.pack(id_, 0x8000 | int(code) & 0xF, 0, 0, 0, 0)


def write(query: Query, answer: Answer, *, limit: int, recursion: bool = False) -> bytes:
    """At most ``limit`` bytes: what does not fit is left out, and the message then says that it was cut (TC).

    ``recursion``: whether this server asks others for other names.
    """
    opt = _opt(answer) if query.udp_bytes else b""
    room = limit - HEADER.size - len(query.question) - len(opt)
    counts = [0, 0, 0]
    body = []
    cut = False
    for section, records in enumerate((answer.answers, answer.authority, answer.additional)):
        for record in records:
            data = _record(record)
            if len(data) > room:
                cut = cut or section < 2  # additional records are a courtesy
                break
            room -= len(data)
            counts[section] += 1
            body.append(data)
        if cut:
            break
    flags = 0x8000 | int(answer.code) & 0xF
    flags |= 0x0400 if answer.authoritative else 0
    flags |= 0x0200 if cut else 0
    flags |= 0x0100 if query.recursion else 0
    flags |= 0x0080 if recursion else 0
    head = HEADER.pack(query.id, flags, 1, counts[0], counts[1], counts[2] + bool(opt))
    return head + query.question + b"".join(body) + opt


def _opt(answer: Answer) -> bytes:
    options = b""
    if answer.extended is not None:
        code, text = answer.extended
        said = text.encode()[:200]
        options = struct.pack("!3H", 15, 2 + len(said), int(code)) + said
    return b"\0" + struct.pack("!2HIH", Type.OPT, EDNS_BYTES, (int(answer.code) >> 4) << 24, len(options)) + options


def _record(record: Resource) -> bytes:
    name = POINTER_TO_QUESTION if record.name is None else encode_name(record.name)
    return name + struct.pack("!2HIH", record.type, CLASS_IN, record.ttl_s, len(record.data)) + record.data


def encode_name(labels: Iterable[bytes]) -> bytes:
    """Uncompressed. Raises ValueError for what is no name."""
    parts = []
    for label in labels:
        if not 0 < len(label) < 64:
            raise ValueError(f"a label has 1 to 63 bytes, not {len(label)}")
        parts.append(bytes((len(label),)) + label)
    data = b"".join(parts) + b"\0"
    if len(data) > NAME_MAX:
        raise ValueError(f"a name has at most {NAME_MAX} bytes, not {len(data)}")
    return data


def address(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, *, ttl_s: int, name: Labels | None = None) -> Resource:
    """A record A or AAAA."""
    return Resource(type=Type.A if ip.version == 4 else Type.AAAA, ttl_s=ttl_s, data=ip.packed, name=name)


def service(port: int, target: Labels, *, ttl_s: int) -> Resource:
    return Resource(type=Type.SRV, ttl_s=ttl_s, data=struct.pack("!3H", 1, 1, port) + encode_name(target))


def authority(zone: Labels, *, ttl_s: int) -> Resource:
    """The SOA of ``zone``; ``ttl_s`` also says how long a "no" may be kept."""
    data = encode_name((b"ns", *zone)) + encode_name((b"hostmaster", *zone))
    data += struct.pack("!5I", 1, 3_600, 600, 86_400, ttl_s)
    return Resource(type=Type.SOA, ttl_s=ttl_s, data=data, name=zone)
