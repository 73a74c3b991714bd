from orchestrator.contract.v1 import session_pb2 as _session_pb2
from orchestrator.contract.v1 import types_pb2 as _types_pb2
from orchestrator.contract.v1 import usage_pb2 as _usage_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RegisterRequest(_message.Message):
    __slots__ = ("request_id", "node")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    node: _types_pb2.NodeSpec
    def __init__(self, request_id: _Optional[str] = ..., node: _Optional[_Union[_types_pb2.NodeSpec, _Mapping]] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("index", "cluster_id", "leader", "heartbeat_ms", "lost_after_ms", "peers")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_MS_FIELD_NUMBER: _ClassVar[int]
    LOST_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    index: int
    cluster_id: str
    leader: LeaderHint
    heartbeat_ms: int
    lost_after_ms: int
    peers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, index: _Optional[int] = ..., cluster_id: _Optional[str] = ..., leader: _Optional[_Union[LeaderHint, _Mapping]] = ..., heartbeat_ms: _Optional[int] = ..., lost_after_ms: _Optional[int] = ..., peers: _Optional[_Iterable[str]] = ...) -> None: ...

class LeaderHint(_message.Message):
    __slots__ = ("peer_id", "address", "term")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    address: str
    term: int
    def __init__(self, peer_id: _Optional[str] = ..., address: _Optional[str] = ..., term: _Optional[int] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("node_id", "sequence", "running")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    sequence: int
    running: int
    def __init__(self, node_id: _Optional[str] = ..., sequence: _Optional[int] = ..., running: _Optional[int] = ...) -> None: ...

class HeartbeatResponse(_message.Message):
    __slots__ = ("sequence", "leader", "register_again", "peers")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    REGISTER_AGAIN_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    leader: LeaderHint
    register_again: bool
    peers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sequence: _Optional[int] = ..., leader: _Optional[_Union[LeaderHint, _Mapping]] = ..., register_again: _Optional[bool] = ..., peers: _Optional[_Iterable[str]] = ...) -> None: ...

class AttendUp(_message.Message):
    __slots__ = ("heartbeat", "arrived")
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    heartbeat: HeartbeatRequest
    arrived: int
    def __init__(self, heartbeat: _Optional[_Union[HeartbeatRequest, _Mapping]] = ..., arrived: _Optional[int] = ...) -> None: ...

class AttendDown(_message.Message):
    __slots__ = ("acknowledged", "piece")
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    acknowledged: HeartbeatResponse
    piece: AssignmentsPiece
    def __init__(self, acknowledged: _Optional[_Union[HeartbeatResponse, _Mapping]] = ..., piece: _Optional[_Union[AssignmentsPiece, _Mapping]] = ...) -> None: ...

class AssignmentsPiece(_message.Message):
    __slots__ = ("data", "last", "mark")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    mark: int
    def __init__(self, data: _Optional[bytes] = ..., last: _Optional[bool] = ..., mark: _Optional[int] = ...) -> None: ...

class AssignmentsRequest(_message.Message):
    __slots__ = ("node_id",)
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    def __init__(self, node_id: _Optional[str] = ...) -> None: ...

class AssignmentsUpdate(_message.Message):
    __slots__ = ("index", "full", "assignments", "removed", "superseded")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    index: int
    full: bool
    assignments: _containers.RepeatedCompositeFieldContainer[Assignment]
    removed: _containers.RepeatedCompositeFieldContainer[AssignmentKey]
    superseded: _containers.RepeatedCompositeFieldContainer[AssignmentKey]
    def __init__(self, index: _Optional[int] = ..., full: _Optional[bool] = ..., assignments: _Optional[_Iterable[_Union[Assignment, _Mapping]]] = ..., removed: _Optional[_Iterable[_Union[AssignmentKey, _Mapping]]] = ..., superseded: _Optional[_Iterable[_Union[AssignmentKey, _Mapping]]] = ...) -> None: ...

class AssignmentKey(_message.Message):
    __slots__ = ("id", "job_uid", "attempt")
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_UID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    id: _types_pb2.AllocationId
    job_uid: str
    attempt: int
    def __init__(self, id: _Optional[_Union[_types_pb2.AllocationId, _Mapping]] = ..., job_uid: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("key", "desired", "group", "on_disconnect", "job_type", "ports", "device_ids", "gpu_millis", "variables", "job_version", "modify_index", "adopt_only", "origin", "digests")
    class VariablesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class DigestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    JOB_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODIFY_INDEX_FIELD_NUMBER: _ClassVar[int]
    ADOPT_ONLY_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    key: AssignmentKey
    desired: _types_pb2.Desired
    group: _types_pb2.GroupSpec
    on_disconnect: _types_pb2.OnDisconnect
    job_type: _types_pb2.JobType
    ports: _containers.RepeatedCompositeFieldContainer[_types_pb2.PortBinding]
    device_ids: _containers.RepeatedScalarFieldContainer[str]
    gpu_millis: int
    variables: _containers.ScalarMap[str, str]
    job_version: int
    modify_index: int
    adopt_only: bool
    origin: _types_pb2.Origin
    digests: _containers.ScalarMap[str, str]
    def __init__(self, key: _Optional[_Union[AssignmentKey, _Mapping]] = ..., desired: _Optional[_Union[_types_pb2.Desired, str]] = ..., group: _Optional[_Union[_types_pb2.GroupSpec, _Mapping]] = ..., on_disconnect: _Optional[_Union[_types_pb2.OnDisconnect, str]] = ..., job_type: _Optional[_Union[_types_pb2.JobType, str]] = ..., ports: _Optional[_Iterable[_Union[_types_pb2.PortBinding, _Mapping]]] = ..., device_ids: _Optional[_Iterable[str]] = ..., gpu_millis: _Optional[int] = ..., variables: _Optional[_Mapping[str, str]] = ..., job_version: _Optional[int] = ..., modify_index: _Optional[int] = ..., adopt_only: _Optional[bool] = ..., origin: _Optional[_Union[_types_pb2.Origin, _Mapping]] = ..., digests: _Optional[_Mapping[str, str]] = ...) -> None: ...

class PinImageRequest(_message.Message):
    __slots__ = ("node_id", "key", "job_version", "image", "digest")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    JOB_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    key: AssignmentKey
    job_version: int
    image: str
    digest: str
    def __init__(self, node_id: _Optional[str] = ..., key: _Optional[_Union[AssignmentKey, _Mapping]] = ..., job_version: _Optional[int] = ..., image: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class PinImageResponse(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class ReportProgressRequest(_message.Message):
    __slots__ = ("node_id", "progress")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    progress: _containers.RepeatedCompositeFieldContainer[Progress]
    def __init__(self, node_id: _Optional[str] = ..., progress: _Optional[_Iterable[_Union[Progress, _Mapping]]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("key", "text")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    key: AssignmentKey
    text: str
    def __init__(self, key: _Optional[_Union[AssignmentKey, _Mapping]] = ..., text: _Optional[str] = ...) -> None: ...

class ReportProgressResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TaskObservation(_message.Message):
    __slots__ = ("task", "state", "exit_code", "reason", "restarts", "runtime_id", "oom_killed")
    TASK_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_ID_FIELD_NUMBER: _ClassVar[int]
    OOM_KILLED_FIELD_NUMBER: _ClassVar[int]
    task: str
    state: _types_pb2.AllocState
    exit_code: int
    reason: str
    restarts: int
    runtime_id: str
    oom_killed: bool
    def __init__(self, task: _Optional[str] = ..., state: _Optional[_Union[_types_pb2.AllocState, str]] = ..., exit_code: _Optional[int] = ..., reason: _Optional[str] = ..., restarts: _Optional[int] = ..., runtime_id: _Optional[str] = ..., oom_killed: _Optional[bool] = ...) -> None: ...

class Observation(_message.Message):
    __slots__ = ("key", "restarts", "state", "exit_code", "reason", "start_failed", "tasks", "health")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    START_FAILED_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    key: AssignmentKey
    restarts: int
    state: _types_pb2.AllocState
    exit_code: int
    reason: str
    start_failed: bool
    tasks: _containers.RepeatedCompositeFieldContainer[TaskObservation]
    health: int
    def __init__(self, key: _Optional[_Union[AssignmentKey, _Mapping]] = ..., restarts: _Optional[int] = ..., state: _Optional[_Union[_types_pb2.AllocState, str]] = ..., exit_code: _Optional[int] = ..., reason: _Optional[str] = ..., start_failed: _Optional[bool] = ..., tasks: _Optional[_Iterable[_Union[TaskObservation, _Mapping]]] = ..., health: _Optional[int] = ...) -> None: ...

class ReportStatusesRequest(_message.Message):
    __slots__ = ("request_id", "node_id", "observations")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    node_id: str
    observations: _containers.RepeatedCompositeFieldContainer[Observation]
    def __init__(self, request_id: _Optional[str] = ..., node_id: _Optional[str] = ..., observations: _Optional[_Iterable[_Union[Observation, _Mapping]]] = ...) -> None: ...

class ReportStatusesResponse(_message.Message):
    __slots__ = ("index",)
    INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    def __init__(self, index: _Optional[int] = ...) -> None: ...

class LogsUp(_message.Message):
    __slots__ = ("hello", "data", "usage")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    hello: LogsHello
    data: LogsData
    usage: UsageData
    def __init__(self, hello: _Optional[_Union[LogsHello, _Mapping]] = ..., data: _Optional[_Union[LogsData, _Mapping]] = ..., usage: _Optional[_Union[UsageData, _Mapping]] = ...) -> None: ...

class LogsHello(_message.Message):
    __slots__ = ("node_id", "sessions", "workload")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    sessions: bool
    workload: bool
    def __init__(self, node_id: _Optional[str] = ..., sessions: _Optional[bool] = ..., workload: _Optional[bool] = ...) -> None: ...

class LogsData(_message.Message):
    __slots__ = ("stream_id", "data", "offset", "task", "stderr", "end", "error", "error_reason", "time_ms")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ERROR_REASON_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    stream_id: str
    data: bytes
    offset: int
    task: str
    stderr: bool
    end: bool
    error: str
    error_reason: str
    time_ms: int
    def __init__(self, stream_id: _Optional[str] = ..., data: _Optional[bytes] = ..., offset: _Optional[int] = ..., task: _Optional[str] = ..., stderr: _Optional[bool] = ..., end: _Optional[bool] = ..., error: _Optional[str] = ..., error_reason: _Optional[str] = ..., time_ms: _Optional[int] = ...) -> None: ...

class LogsDown(_message.Message):
    __slots__ = ("open", "close", "session", "usage")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    open: LogsOpen
    close: LogsClose
    session: _session_pb2.SessionCall
    usage: UsageCall
    def __init__(self, open: _Optional[_Union[LogsOpen, _Mapping]] = ..., close: _Optional[_Union[LogsClose, _Mapping]] = ..., session: _Optional[_Union[_session_pb2.SessionCall, _Mapping]] = ..., usage: _Optional[_Union[UsageCall, _Mapping]] = ...) -> None: ...

class LogsOpen(_message.Message):
    __slots__ = ("stream_id", "key", "task", "previous", "follow", "tail_lines", "offset", "since_ms", "workload")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    TAIL_LINES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    stream_id: str
    key: AssignmentKey
    task: str
    previous: bool
    follow: bool
    tail_lines: int
    offset: int
    since_ms: int
    workload: bool
    def __init__(self, stream_id: _Optional[str] = ..., key: _Optional[_Union[AssignmentKey, _Mapping]] = ..., task: _Optional[str] = ..., previous: _Optional[bool] = ..., follow: _Optional[bool] = ..., tail_lines: _Optional[int] = ..., offset: _Optional[int] = ..., since_ms: _Optional[int] = ..., workload: _Optional[bool] = ...) -> None: ...

class LogsClose(_message.Message):
    __slots__ = ("stream_id",)
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    stream_id: str
    def __init__(self, stream_id: _Optional[str] = ...) -> None: ...

class UsageCall(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class UsageData(_message.Message):
    __slots__ = ("request_id", "usage")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    usage: _usage_pb2.NodeUsage
    def __init__(self, request_id: _Optional[str] = ..., usage: _Optional[_Union[_usage_pb2.NodeUsage, _Mapping]] = ...) -> None: ...

class ServiceName(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ServicesUp(_message.Message):
    __slots__ = ("node_id", "add", "drop")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    add: _containers.RepeatedCompositeFieldContainer[ServiceName]
    drop: _containers.RepeatedCompositeFieldContainer[ServiceName]
    def __init__(self, node_id: _Optional[str] = ..., add: _Optional[_Iterable[_Union[ServiceName, _Mapping]]] = ..., drop: _Optional[_Iterable[_Union[ServiceName, _Mapping]]] = ...) -> None: ...

class ServicesDown(_message.Message):
    __slots__ = ("index", "services")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    index: int
    services: _containers.RepeatedCompositeFieldContainer[_types_pb2.Service]
    def __init__(self, index: _Optional[int] = ..., services: _Optional[_Iterable[_Union[_types_pb2.Service, _Mapping]]] = ...) -> None: ...

class WorkloadReport(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[_types_pb2.TaskReport]
    def __init__(self, tasks: _Optional[_Iterable[_Union[_types_pb2.TaskReport, _Mapping]]] = ...) -> None: ...
