from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frames(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    def __init__(self, frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("hello", "refused")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    refused: str
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., refused: _Optional[str] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("hello",)
    HELLO_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ...) -> None: ...

class SnapshotPart(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: SnapshotHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[SnapshotHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class SnapshotHeader(_message.Message):
    __slots__ = ("epoch", "last_index", "last_term", "index", "total_bytes", "crc32c", "term", "cluster_id", "admitted")
    class AdmittedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_TERM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    last_index: int
    last_term: int
    index: int
    total_bytes: int
    crc32c: int
    term: int
    cluster_id: str
    admitted: _containers.ScalarMap[str, str]
    def __init__(self, epoch: _Optional[int] = ..., last_index: _Optional[int] = ..., last_term: _Optional[int] = ..., index: _Optional[int] = ..., total_bytes: _Optional[int] = ..., crc32c: _Optional[int] = ..., term: _Optional[int] = ..., cluster_id: _Optional[str] = ..., admitted: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Invitation(_message.Message):
    __slots__ = ("hello", "address")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    address: str
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., address: _Optional[str] = ...) -> None: ...

class InvitationReply(_message.Message):
    __slots__ = ("hello", "fetched_bytes", "problem")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    FETCHED_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    fetched_bytes: int
    problem: str
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., fetched_bytes: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("cluster_id", "peer_id", "incarnation", "epoch", "session", "feature_level", "peers", "term", "admitted", "addresses", "address", "retired")
    class AdmittedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class AddressesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    peer_id: str
    incarnation: str
    epoch: int
    session: int
    feature_level: int
    peers: _containers.RepeatedScalarFieldContainer[str]
    term: int
    admitted: _containers.ScalarMap[str, str]
    addresses: _containers.ScalarMap[str, str]
    address: str
    retired: bool
    def __init__(self, cluster_id: _Optional[str] = ..., peer_id: _Optional[str] = ..., incarnation: _Optional[str] = ..., epoch: _Optional[int] = ..., session: _Optional[int] = ..., feature_level: _Optional[int] = ..., peers: _Optional[_Iterable[str]] = ..., term: _Optional[int] = ..., admitted: _Optional[_Mapping[str, str]] = ..., addresses: _Optional[_Mapping[str, str]] = ..., address: _Optional[str] = ..., retired: _Optional[bool] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("hello", "append", "append_reply", "vote_request", "vote_reply", "prevote_request", "prevote_reply", "stale_term", "snapshot_chunk", "snapshot_progress", "read_probe", "read_probe_reply", "read_index_request", "read_index_reply")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    APPEND_REPLY_FIELD_NUMBER: _ClassVar[int]
    VOTE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    VOTE_REPLY_FIELD_NUMBER: _ClassVar[int]
    PREVOTE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    PREVOTE_REPLY_FIELD_NUMBER: _ClassVar[int]
    STALE_TERM_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    READ_PROBE_FIELD_NUMBER: _ClassVar[int]
    READ_PROBE_REPLY_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_REQUEST_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_REPLY_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    append: AppendEntries
    append_reply: AppendReply
    vote_request: VoteRequest
    vote_reply: VoteReply
    prevote_request: PreVoteRequest
    prevote_reply: PreVoteReply
    stale_term: StaleTerm
    snapshot_chunk: SnapshotChunk
    snapshot_progress: SnapshotProgress
    read_probe: ReadProbe
    read_probe_reply: ReadProbeReply
    read_index_request: ReadIndexRequest
    read_index_reply: ReadIndexReply
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., append: _Optional[_Union[AppendEntries, _Mapping]] = ..., append_reply: _Optional[_Union[AppendReply, _Mapping]] = ..., vote_request: _Optional[_Union[VoteRequest, _Mapping]] = ..., vote_reply: _Optional[_Union[VoteReply, _Mapping]] = ..., prevote_request: _Optional[_Union[PreVoteRequest, _Mapping]] = ..., prevote_reply: _Optional[_Union[PreVoteReply, _Mapping]] = ..., stale_term: _Optional[_Union[StaleTerm, _Mapping]] = ..., snapshot_chunk: _Optional[_Union[SnapshotChunk, _Mapping]] = ..., snapshot_progress: _Optional[_Union[SnapshotProgress, _Mapping]] = ..., read_probe: _Optional[_Union[ReadProbe, _Mapping]] = ..., read_probe_reply: _Optional[_Union[ReadProbeReply, _Mapping]] = ..., read_index_request: _Optional[_Union[ReadIndexRequest, _Mapping]] = ..., read_index_reply: _Optional[_Union[ReadIndexReply, _Mapping]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("term", "data")
    TERM_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    term: int
    data: bytes
    def __init__(self, term: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class AppendEntries(_message.Message):
    __slots__ = ("term", "commit_index", "prev_index", "prev_term", "entries")
    TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    PREV_INDEX_FIELD_NUMBER: _ClassVar[int]
    PREV_TERM_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    term: int
    commit_index: int
    prev_index: int
    prev_term: int
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, term: _Optional[int] = ..., commit_index: _Optional[int] = ..., prev_index: _Optional[int] = ..., prev_term: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class AppendReply(_message.Message):
    __slots__ = ("term", "next_index", "reset", "success")
    TERM_FIELD_NUMBER: _ClassVar[int]
    NEXT_INDEX_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    term: int
    next_index: int
    reset: bool
    success: bool
    def __init__(self, term: _Optional[int] = ..., next_index: _Optional[int] = ..., reset: _Optional[bool] = ..., success: _Optional[bool] = ...) -> None: ...

class VoteRequest(_message.Message):
    __slots__ = ("term", "last_index", "last_term")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    last_index: int
    last_term: int
    def __init__(self, term: _Optional[int] = ..., last_index: _Optional[int] = ..., last_term: _Optional[int] = ...) -> None: ...

class VoteReply(_message.Message):
    __slots__ = ("term",)
    TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    def __init__(self, term: _Optional[int] = ...) -> None: ...

class PreVoteRequest(_message.Message):
    __slots__ = ("term", "last_index", "last_term", "round")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    term: int
    last_index: int
    last_term: int
    round: int
    def __init__(self, term: _Optional[int] = ..., last_index: _Optional[int] = ..., last_term: _Optional[int] = ..., round: _Optional[int] = ...) -> None: ...

class PreVoteReply(_message.Message):
    __slots__ = ("round", "granted", "term")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    round: int
    granted: bool
    term: int
    def __init__(self, round: _Optional[int] = ..., granted: _Optional[bool] = ..., term: _Optional[int] = ...) -> None: ...

class StaleTerm(_message.Message):
    __slots__ = ("term",)
    TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    def __init__(self, term: _Optional[int] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("term", "commit_index", "last_index", "last_term", "index", "total_bytes", "crc32c", "offset", "data")
    TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_TERM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    term: int
    commit_index: int
    last_index: int
    last_term: int
    index: int
    total_bytes: int
    crc32c: int
    offset: int
    data: bytes
    def __init__(self, term: _Optional[int] = ..., commit_index: _Optional[int] = ..., last_index: _Optional[int] = ..., last_term: _Optional[int] = ..., index: _Optional[int] = ..., total_bytes: _Optional[int] = ..., crc32c: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SnapshotProgress(_message.Message):
    __slots__ = ("term", "last_index", "next_offset")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    term: int
    last_index: int
    next_offset: int
    def __init__(self, term: _Optional[int] = ..., last_index: _Optional[int] = ..., next_offset: _Optional[int] = ...) -> None: ...

class ReadProbe(_message.Message):
    __slots__ = ("term", "round")
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    term: int
    round: int
    def __init__(self, term: _Optional[int] = ..., round: _Optional[int] = ...) -> None: ...

class ReadProbeReply(_message.Message):
    __slots__ = ("term", "round")
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    term: int
    round: int
    def __init__(self, term: _Optional[int] = ..., round: _Optional[int] = ...) -> None: ...

class ReadIndexRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class ReadIndexReply(_message.Message):
    __slots__ = ("id", "ok", "commit_index")
    ID_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    id: int
    ok: bool
    commit_index: int
    def __init__(self, id: _Optional[int] = ..., ok: _Optional[bool] = ..., commit_index: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("format", "payloads", "size", "packed")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    format: int
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    size: int
    packed: bytes
    def __init__(self, format: _Optional[int] = ..., payloads: _Optional[_Iterable[bytes]] = ..., size: _Optional[int] = ..., packed: _Optional[bytes] = ...) -> None: ...
