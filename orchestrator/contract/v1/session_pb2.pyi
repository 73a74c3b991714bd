from orchestrator.contract.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionOpen(_message.Message):
    __slots__ = ("id", "attempt", "task", "exec", "copy_out", "copy_in", "connect")
    ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    EXEC_FIELD_NUMBER: _ClassVar[int]
    COPY_OUT_FIELD_NUMBER: _ClassVar[int]
    COPY_IN_FIELD_NUMBER: _ClassVar[int]
    CONNECT_FIELD_NUMBER: _ClassVar[int]
    id: _types_pb2.AllocationId
    attempt: int
    task: str
    exec: ExecOpen
    copy_out: CopyOut
    copy_in: CopyIn
    connect: Connect
    def __init__(self, id: _Optional[_Union[_types_pb2.AllocationId, _Mapping]] = ..., attempt: _Optional[int] = ..., task: _Optional[str] = ..., exec: _Optional[_Union[ExecOpen, _Mapping]] = ..., copy_out: _Optional[_Union[CopyOut, _Mapping]] = ..., copy_in: _Optional[_Union[CopyIn, _Mapping]] = ..., connect: _Optional[_Union[Connect, _Mapping]] = ...) -> None: ...

class ExecOpen(_message.Message):
    __slots__ = ("command", "tty", "stdin", "size", "term")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    TTY_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    command: _containers.RepeatedScalarFieldContainer[str]
    tty: bool
    stdin: bool
    size: TerminalSize
    term: str
    def __init__(self, command: _Optional[_Iterable[str]] = ..., tty: _Optional[bool] = ..., stdin: _Optional[bool] = ..., size: _Optional[_Union[TerminalSize, _Mapping]] = ..., term: _Optional[str] = ...) -> None: ...

class TerminalSize(_message.Message):
    __slots__ = ("rows", "columns")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ...) -> None: ...

class CopyOut(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class CopyIn(_message.Message):
    __slots__ = ("path", "name", "directory", "contents")
    PATH_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    path: str
    name: str
    directory: bool
    contents: bool
    def __init__(self, path: _Optional[str] = ..., name: _Optional[str] = ..., directory: _Optional[bool] = ..., contents: _Optional[bool] = ...) -> None: ...

class Connect(_message.Message):
    __slots__ = ("port", "label")
    PORT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    port: int
    label: str
    def __init__(self, port: _Optional[int] = ..., label: _Optional[str] = ...) -> None: ...

class ClientFrame(_message.Message):
    __slots__ = ("open", "data", "end_of_data", "size", "signal")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    END_OF_DATA_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    open: SessionOpen
    data: bytes
    end_of_data: bool
    size: TerminalSize
    signal: str
    def __init__(self, open: _Optional[_Union[SessionOpen, _Mapping]] = ..., data: _Optional[bytes] = ..., end_of_data: _Optional[bool] = ..., size: _Optional[_Union[TerminalSize, _Mapping]] = ..., signal: _Optional[str] = ...) -> None: ...

class AgentFrame(_message.Message):
    __slots__ = ("join", "started", "data", "error_data", "end_of_data", "end")
    JOIN_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ERROR_DATA_FIELD_NUMBER: _ClassVar[int]
    END_OF_DATA_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    join: str
    started: SessionStarted
    data: bytes
    error_data: bytes
    end_of_data: bool
    end: SessionEnd
    def __init__(self, join: _Optional[str] = ..., started: _Optional[_Union[SessionStarted, _Mapping]] = ..., data: _Optional[bytes] = ..., error_data: _Optional[bytes] = ..., end_of_data: _Optional[bool] = ..., end: _Optional[_Union[SessionEnd, _Mapping]] = ...) -> None: ...

class SessionStarted(_message.Message):
    __slots__ = ("node_id", "node", "id", "attempt", "task", "name")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    node: str
    id: _types_pb2.AllocationId
    attempt: int
    task: str
    name: str
    def __init__(self, node_id: _Optional[str] = ..., node: _Optional[str] = ..., id: _Optional[_Union[_types_pb2.AllocationId, _Mapping]] = ..., attempt: _Optional[int] = ..., task: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class SessionEnd(_message.Message):
    __slots__ = ("exit_code", "error", "error_reason")
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ERROR_REASON_FIELD_NUMBER: _ClassVar[int]
    exit_code: int
    error: str
    error_reason: str
    def __init__(self, exit_code: _Optional[int] = ..., error: _Optional[str] = ..., error_reason: _Optional[str] = ...) -> None: ...

class SessionCall(_message.Message):
    __slots__ = ("session_id", "id", "job_uid", "attempt", "open")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_UID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    id: _types_pb2.AllocationId
    job_uid: str
    attempt: int
    open: SessionOpen
    def __init__(self, session_id: _Optional[str] = ..., id: _Optional[_Union[_types_pb2.AllocationId, _Mapping]] = ..., job_uid: _Optional[str] = ..., attempt: _Optional[int] = ..., open: _Optional[_Union[SessionOpen, _Mapping]] = ...) -> None: ...
