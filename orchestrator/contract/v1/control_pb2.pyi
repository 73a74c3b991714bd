from orchestrator.contract.v1 import session_pb2 as _session_pb2
from orchestrator.contract.v1 import types_pb2 as _types_pb2
from orchestrator.contract.v1 import usage_pb2 as _usage_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadOptions(_message.Message):
    __slots__ = ("stale",)
    STALE_FIELD_NUMBER: _ClassVar[int]
    stale: bool
    def __init__(self, stale: _Optional[bool] = ...) -> None: ...

class ReadInfo(_message.Message):
    __slots__ = ("index", "stale", "age_ms", "peer_id")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    index: int
    stale: bool
    age_ms: int
    peer_id: str
    def __init__(self, index: _Optional[int] = ..., stale: _Optional[bool] = ..., age_ms: _Optional[int] = ..., peer_id: _Optional[str] = ...) -> None: ...

class WriteResponse(_message.Message):
    __slots__ = ("index", "changed")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    index: int
    changed: bool
    def __init__(self, index: _Optional[int] = ..., changed: _Optional[bool] = ...) -> None: ...

class SubmitJobRequest(_message.Message):
    __slots__ = ("request_id", "job", "expect_version")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    EXPECT_VERSION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job: _types_pb2.JobSpec
    expect_version: int
    def __init__(self, request_id: _Optional[str] = ..., job: _Optional[_Union[_types_pb2.JobSpec, _Mapping]] = ..., expect_version: _Optional[int] = ...) -> None: ...

class SubmitJobResponse(_message.Message):
    __slots__ = ("index", "uid", "version", "changed")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    index: int
    uid: str
    version: int
    changed: bool
    def __init__(self, index: _Optional[int] = ..., uid: _Optional[str] = ..., version: _Optional[int] = ..., changed: _Optional[bool] = ...) -> None: ...

class SubmitJobsRequest(_message.Message):
    __slots__ = ("request_id", "jobs")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    jobs: _containers.RepeatedCompositeFieldContainer[_types_pb2.JobSpec]
    def __init__(self, request_id: _Optional[str] = ..., jobs: _Optional[_Iterable[_Union[_types_pb2.JobSpec, _Mapping]]] = ...) -> None: ...

class SubmitJobsResponse(_message.Message):
    __slots__ = ("index", "jobs")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    index: int
    jobs: _containers.RepeatedCompositeFieldContainer[SubmitJobResponse]
    def __init__(self, index: _Optional[int] = ..., jobs: _Optional[_Iterable[_Union[SubmitJobResponse, _Mapping]]] = ...) -> None: ...

class JobKey(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job", "read")
    JOB_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    job: JobKey
    read: ReadOptions
    def __init__(self, job: _Optional[_Union[JobKey, _Mapping]] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class GroupStatus(_message.Message):
    __slots__ = ("group", "count", "running", "starting", "pending", "complete", "failed", "lost", "outdated", "ready", "updated", "surplus", "skipped", "waits")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    STARTING_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    OUTDATED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    SURPLUS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    group: str
    count: int
    running: int
    starting: int
    pending: int
    complete: int
    failed: int
    lost: int
    outdated: int
    ready: int
    updated: int
    surplus: int
    skipped: int
    waits: str
    def __init__(self, group: _Optional[str] = ..., count: _Optional[int] = ..., running: _Optional[int] = ..., starting: _Optional[int] = ..., pending: _Optional[int] = ..., complete: _Optional[int] = ..., failed: _Optional[int] = ..., lost: _Optional[int] = ..., outdated: _Optional[int] = ..., ready: _Optional[int] = ..., updated: _Optional[int] = ..., surplus: _Optional[int] = ..., skipped: _Optional[int] = ..., waits: _Optional[str] = ...) -> None: ...

class JobStatus(_message.Message):
    __slots__ = ("spec", "uid", "version", "state", "stopped", "create_index", "modify_index", "create_time_ms", "modify_time_ms", "groups", "removing", "rollout", "stable_version", "template")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    CREATE_INDEX_FIELD_NUMBER: _ClassVar[int]
    MODIFY_INDEX_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    MODIFY_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    REMOVING_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    STABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    spec: _types_pb2.JobSpec
    uid: str
    version: int
    state: str
    stopped: bool
    create_index: int
    modify_index: int
    create_time_ms: int
    modify_time_ms: int
    groups: _containers.RepeatedCompositeFieldContainer[GroupStatus]
    removing: bool
    rollout: _types_pb2.Rollout
    stable_version: int
    template: Template
    def __init__(self, spec: _Optional[_Union[_types_pb2.JobSpec, _Mapping]] = ..., uid: _Optional[str] = ..., version: _Optional[int] = ..., state: _Optional[str] = ..., stopped: _Optional[bool] = ..., create_index: _Optional[int] = ..., modify_index: _Optional[int] = ..., create_time_ms: _Optional[int] = ..., modify_time_ms: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[GroupStatus, _Mapping]]] = ..., removing: _Optional[bool] = ..., rollout: _Optional[_Union[_types_pb2.Rollout, _Mapping]] = ..., stable_version: _Optional[int] = ..., template: _Optional[_Union[Template, _Mapping]] = ...) -> None: ...

class Template(_message.Message):
    __slots__ = ("next_ms", "last_ms", "last_job", "runs", "skipped", "last_skipped", "live", "complete", "failed", "problem")
    NEXT_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_JOB_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    LAST_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    next_ms: int
    last_ms: int
    last_job: str
    runs: int
    skipped: int
    last_skipped: str
    live: int
    complete: int
    failed: int
    problem: str
    def __init__(self, next_ms: _Optional[int] = ..., last_ms: _Optional[int] = ..., last_job: _Optional[str] = ..., runs: _Optional[int] = ..., skipped: _Optional[int] = ..., last_skipped: _Optional[str] = ..., live: _Optional[int] = ..., complete: _Optional[int] = ..., failed: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job", "read")
    JOB_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    job: JobStatus
    read: ReadInfo
    def __init__(self, job: _Optional[_Union[JobStatus, _Mapping]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("namespace", "read")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    read: ReadOptions
    def __init__(self, namespace: _Optional[str] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "read")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[JobStatus]
    read: ReadInfo
    def __init__(self, jobs: _Optional[_Iterable[_Union[JobStatus, _Mapping]]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class StopJobRequest(_message.Message):
    __slots__ = ("request_id", "job")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job: JobKey
    def __init__(self, request_id: _Optional[str] = ..., job: _Optional[_Union[JobKey, _Mapping]] = ...) -> None: ...

class ScaleJobRequest(_message.Message):
    __slots__ = ("request_id", "job", "group", "count")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job: JobKey
    group: str
    count: int
    def __init__(self, request_id: _Optional[str] = ..., job: _Optional[_Union[JobKey, _Mapping]] = ..., group: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class RestartJobRequest(_message.Message):
    __slots__ = ("request_id", "job")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job: JobKey
    def __init__(self, request_id: _Optional[str] = ..., job: _Optional[_Union[JobKey, _Mapping]] = ...) -> None: ...

class RemoveJobRequest(_message.Message):
    __slots__ = ("request_id", "job")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job: JobKey
    def __init__(self, request_id: _Optional[str] = ..., job: _Optional[_Union[JobKey, _Mapping]] = ...) -> None: ...

class SteerRolloutRequest(_message.Message):
    __slots__ = ("request_id", "job", "action")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job: JobKey
    action: _types_pb2.RolloutAction
    def __init__(self, request_id: _Optional[str] = ..., job: _Optional[_Union[JobKey, _Mapping]] = ..., action: _Optional[_Union[_types_pb2.RolloutAction, str]] = ...) -> None: ...

class RollbackJobRequest(_message.Message):
    __slots__ = ("request_id", "job", "version")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job: JobKey
    version: int
    def __init__(self, request_id: _Optional[str] = ..., job: _Optional[_Union[JobKey, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class DispatchJobRequest(_message.Message):
    __slots__ = ("request_id", "job", "meta", "payload")
    class MetaEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job: JobKey
    meta: _containers.ScalarMap[str, str]
    payload: bytes
    def __init__(self, request_id: _Optional[str] = ..., job: _Optional[_Union[JobKey, _Mapping]] = ..., meta: _Optional[_Mapping[str, str]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class ForceRunRequest(_message.Message):
    __slots__ = ("request_id", "job")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job: JobKey
    def __init__(self, request_id: _Optional[str] = ..., job: _Optional[_Union[JobKey, _Mapping]] = ...) -> None: ...

class DispatchJobResponse(_message.Message):
    __slots__ = ("index", "uid", "name")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    index: int
    uid: str
    name: str
    def __init__(self, index: _Optional[int] = ..., uid: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ListJobVersionsRequest(_message.Message):
    __slots__ = ("job", "read")
    JOB_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    job: JobKey
    read: ReadOptions
    def __init__(self, job: _Optional[_Union[JobKey, _Mapping]] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class ListJobVersionsResponse(_message.Message):
    __slots__ = ("versions", "read", "held_version", "base_version")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    HELD_VERSION_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[_types_pb2.Revision]
    read: ReadInfo
    held_version: int
    base_version: int
    def __init__(self, versions: _Optional[_Iterable[_Union[_types_pb2.Revision, _Mapping]]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ..., held_version: _Optional[int] = ..., base_version: _Optional[int] = ...) -> None: ...

class ExplainJobRequest(_message.Message):
    __slots__ = ("job", "read")
    JOB_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    job: JobKey
    read: ReadOptions
    def __init__(self, job: _Optional[_Union[JobKey, _Mapping]] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("constraint", "text", "nodes")
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    constraint: str
    text: str
    nodes: int
    def __init__(self, constraint: _Optional[str] = ..., text: _Optional[str] = ..., nodes: _Optional[int] = ...) -> None: ...

class GroupExplanation(_message.Message):
    __slots__ = ("group", "pending", "summary", "rejections", "nearest", "queue_position", "hint", "remedy", "remedy_node", "blocked_by", "blocked_text", "remarks")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    NEAREST_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    REMEDY_NODE_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_BY_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_TEXT_FIELD_NUMBER: _ClassVar[int]
    REMARKS_FIELD_NUMBER: _ClassVar[int]
    group: str
    pending: int
    summary: str
    rejections: _containers.RepeatedCompositeFieldContainer[Rejection]
    nearest: str
    queue_position: int
    hint: str
    remedy: _containers.RepeatedCompositeFieldContainer[RemedyStep]
    remedy_node: str
    blocked_by: str
    blocked_text: str
    remarks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, group: _Optional[str] = ..., pending: _Optional[int] = ..., summary: _Optional[str] = ..., rejections: _Optional[_Iterable[_Union[Rejection, _Mapping]]] = ..., nearest: _Optional[str] = ..., queue_position: _Optional[int] = ..., hint: _Optional[str] = ..., remedy: _Optional[_Iterable[_Union[RemedyStep, _Mapping]]] = ..., remedy_node: _Optional[str] = ..., blocked_by: _Optional[str] = ..., blocked_text: _Optional[str] = ..., remarks: _Optional[_Iterable[str]] = ...) -> None: ...

class RemedyStep(_message.Message):
    __slots__ = ("kind", "what", "before", "after", "text")
    KIND_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    what: str
    before: str
    after: str
    text: str
    def __init__(self, kind: _Optional[str] = ..., what: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class ExplainJobResponse(_message.Message):
    __slots__ = ("groups", "summary", "read")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[GroupExplanation]
    summary: str
    read: ReadInfo
    def __init__(self, groups: _Optional[_Iterable[_Union[GroupExplanation, _Mapping]]] = ..., summary: _Optional[str] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class GetAllocationRequest(_message.Message):
    __slots__ = ("id", "attempt", "read")
    ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    id: _types_pb2.AllocationId
    attempt: int
    read: ReadOptions
    def __init__(self, id: _Optional[_Union[_types_pb2.AllocationId, _Mapping]] = ..., attempt: _Optional[int] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class GetAllocationResponse(_message.Message):
    __slots__ = ("allocation", "read")
    ALLOCATION_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    allocation: _types_pb2.Allocation
    read: ReadInfo
    def __init__(self, allocation: _Optional[_Union[_types_pb2.Allocation, _Mapping]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class ListAllocationsRequest(_message.Message):
    __slots__ = ("namespace", "job", "node_id", "live_only", "read")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    LIVE_ONLY_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    job: str
    node_id: str
    live_only: bool
    read: ReadOptions
    def __init__(self, namespace: _Optional[str] = ..., job: _Optional[str] = ..., node_id: _Optional[str] = ..., live_only: _Optional[bool] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class ListAllocationsResponse(_message.Message):
    __slots__ = ("allocations", "read")
    ALLOCATIONS_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    allocations: _containers.RepeatedCompositeFieldContainer[_types_pb2.Allocation]
    read: ReadInfo
    def __init__(self, allocations: _Optional[_Iterable[_Union[_types_pb2.Allocation, _Mapping]]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class LogsRequest(_message.Message):
    __slots__ = ("id", "task", "attempt", "previous", "follow", "tail_lines", "offset", "since_ms", "workload")
    ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    TAIL_LINES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    id: _types_pb2.AllocationId
    task: str
    attempt: int
    previous: bool
    follow: bool
    tail_lines: int
    offset: int
    since_ms: int
    workload: bool
    def __init__(self, id: _Optional[_Union[_types_pb2.AllocationId, _Mapping]] = ..., task: _Optional[str] = ..., attempt: _Optional[int] = ..., previous: _Optional[bool] = ..., follow: _Optional[bool] = ..., tail_lines: _Optional[int] = ..., offset: _Optional[int] = ..., since_ms: _Optional[int] = ..., workload: _Optional[bool] = ...) -> None: ...

class LogsChunk(_message.Message):
    __slots__ = ("data", "offset", "task", "attempt", "stderr", "time_ms")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    offset: int
    task: str
    attempt: int
    stderr: bool
    time_ms: int
    def __init__(self, data: _Optional[bytes] = ..., offset: _Optional[int] = ..., task: _Optional[str] = ..., attempt: _Optional[int] = ..., stderr: _Optional[bool] = ..., time_ms: _Optional[int] = ...) -> None: ...

class ListServicesRequest(_message.Message):
    __slots__ = ("namespace", "name", "read")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    read: ReadOptions
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class ListServicesResponse(_message.Message):
    __slots__ = ("services", "read")
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedCompositeFieldContainer[_types_pb2.Service]
    read: ReadInfo
    def __init__(self, services: _Optional[_Iterable[_Union[_types_pb2.Service, _Mapping]]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class WatchServicesRequest(_message.Message):
    __slots__ = ("namespace", "name", "after_index")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_INDEX_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    after_index: int
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., after_index: _Optional[int] = ...) -> None: ...

class ServicesUpdate(_message.Message):
    __slots__ = ("index", "full", "services")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    index: int
    full: bool
    services: _containers.RepeatedCompositeFieldContainer[_types_pb2.Service]
    def __init__(self, index: _Optional[int] = ..., full: _Optional[bool] = ..., services: _Optional[_Iterable[_Union[_types_pb2.Service, _Mapping]]] = ...) -> None: ...

class GetWorkloadRequest(_message.Message):
    __slots__ = ("id", "attempt")
    ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    id: _types_pb2.AllocationId
    attempt: int
    def __init__(self, id: _Optional[_Union[_types_pb2.AllocationId, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...

class GetWorkloadResponse(_message.Message):
    __slots__ = ("tasks", "attempt")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[_types_pb2.TaskReport]
    attempt: int
    def __init__(self, tasks: _Optional[_Iterable[_Union[_types_pb2.TaskReport, _Mapping]]] = ..., attempt: _Optional[int] = ...) -> None: ...

class NodeInfo(_message.Message):
    __slots__ = ("spec", "status", "cordoned", "draining", "used", "allocations", "devices", "register_index", "heartbeat_age_ms", "status_reason", "taints", "drain_deadline_ms")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    ALLOCATIONS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    REGISTER_INDEX_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    STATUS_REASON_FIELD_NUMBER: _ClassVar[int]
    TAINTS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    spec: _types_pb2.NodeSpec
    status: _types_pb2.NodeStatus
    cordoned: bool
    draining: bool
    used: _types_pb2.Resources
    allocations: int
    devices: _containers.RepeatedCompositeFieldContainer[DeviceUse]
    register_index: int
    heartbeat_age_ms: int
    status_reason: str
    taints: _containers.RepeatedCompositeFieldContainer[_types_pb2.NodeTaint]
    drain_deadline_ms: int
    def __init__(self, spec: _Optional[_Union[_types_pb2.NodeSpec, _Mapping]] = ..., status: _Optional[_Union[_types_pb2.NodeStatus, str]] = ..., cordoned: _Optional[bool] = ..., draining: _Optional[bool] = ..., used: _Optional[_Union[_types_pb2.Resources, _Mapping]] = ..., allocations: _Optional[int] = ..., devices: _Optional[_Iterable[_Union[DeviceUse, _Mapping]]] = ..., register_index: _Optional[int] = ..., heartbeat_age_ms: _Optional[int] = ..., status_reason: _Optional[str] = ..., taints: _Optional[_Iterable[_Union[_types_pb2.NodeTaint, _Mapping]]] = ..., drain_deadline_ms: _Optional[int] = ...) -> None: ...

class DeviceUse(_message.Message):
    __slots__ = ("device", "used_millis", "cordoned", "sick")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    USED_MILLIS_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    SICK_FIELD_NUMBER: _ClassVar[int]
    device: _types_pb2.Device
    used_millis: int
    cordoned: bool
    sick: str
    def __init__(self, device: _Optional[_Union[_types_pb2.Device, _Mapping]] = ..., used_millis: _Optional[int] = ..., cordoned: _Optional[bool] = ..., sick: _Optional[str] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ("read",)
    READ_FIELD_NUMBER: _ClassVar[int]
    read: ReadOptions
    def __init__(self, read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes", "read")
    NODES_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeInfo]
    read: ReadInfo
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodeInfo, _Mapping]]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class NodeRequest(_message.Message):
    __slots__ = ("request_id", "node")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    node: str
    def __init__(self, request_id: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class DrainNodeRequest(_message.Message):
    __slots__ = ("request_id", "node", "deadline_ms", "cancel", "keep_cordoned")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    KEEP_CORDONED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    node: str
    deadline_ms: int
    cancel: bool
    keep_cordoned: bool
    def __init__(self, request_id: _Optional[str] = ..., node: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., cancel: _Optional[bool] = ..., keep_cordoned: _Optional[bool] = ...) -> None: ...

class DrainStatusRequest(_message.Message):
    __slots__ = ("node", "read")
    NODE_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    node: str
    read: ReadOptions
    def __init__(self, node: _Optional[str] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class DrainStatusResponse(_message.Message):
    __slots__ = ("node_id", "node", "draining", "deadline_ms", "now_ms", "left", "read")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    node: str
    draining: bool
    deadline_ms: int
    now_ms: int
    left: _containers.RepeatedCompositeFieldContainer[DrainStep]
    read: ReadInfo
    def __init__(self, node_id: _Optional[str] = ..., node: _Optional[str] = ..., draining: _Optional[bool] = ..., deadline_ms: _Optional[int] = ..., now_ms: _Optional[int] = ..., left: _Optional[_Iterable[_Union[DrainStep, _Mapping]]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class DrainStep(_message.Message):
    __slots__ = ("id", "attempt", "state", "kind", "why")
    ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    id: _types_pb2.AllocationId
    attempt: int
    state: _types_pb2.AllocState
    kind: str
    why: str
    def __init__(self, id: _Optional[_Union[_types_pb2.AllocationId, _Mapping]] = ..., attempt: _Optional[int] = ..., state: _Optional[_Union[_types_pb2.AllocState, str]] = ..., kind: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class UnknownUsage(_message.Message):
    __slots__ = ("node_id", "node", "why")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    node: str
    why: str
    def __init__(self, node_id: _Optional[str] = ..., node: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("nodes", "unknown")
    NODES_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[_usage_pb2.NodeUsage]
    unknown: _containers.RepeatedCompositeFieldContainer[UnknownUsage]
    def __init__(self, nodes: _Optional[_Iterable[_Union[_usage_pb2.NodeUsage, _Mapping]]] = ..., unknown: _Optional[_Iterable[_Union[UnknownUsage, _Mapping]]] = ...) -> None: ...

class NodeDeviceRequest(_message.Message):
    __slots__ = ("request_id", "node", "device")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    node: str
    device: str
    def __init__(self, request_id: _Optional[str] = ..., node: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class TaintNodeRequest(_message.Message):
    __slots__ = ("request_id", "node", "put", "drop")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    node: str
    put: _containers.RepeatedCompositeFieldContainer[_types_pb2.Taint]
    drop: _containers.RepeatedCompositeFieldContainer[TaintKey]
    def __init__(self, request_id: _Optional[str] = ..., node: _Optional[str] = ..., put: _Optional[_Iterable[_Union[_types_pb2.Taint, _Mapping]]] = ..., drop: _Optional[_Iterable[_Union[TaintKey, _Mapping]]] = ...) -> None: ...

class TaintKey(_message.Message):
    __slots__ = ("key", "effect")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    key: str
    effect: _types_pb2.TaintEffect
    def __init__(self, key: _Optional[str] = ..., effect: _Optional[_Union[_types_pb2.TaintEffect, str]] = ...) -> None: ...

class PeerInfo(_message.Message):
    __slots__ = ("id", "address", "role", "connected", "voter", "match_index", "lag", "last_contact_ms", "cert_expires_ms", "version", "found_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    MATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    LAST_CONTACT_MS_FIELD_NUMBER: _ClassVar[int]
    CERT_EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FOUND_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    address: str
    role: str
    connected: bool
    voter: bool
    match_index: int
    lag: int
    last_contact_ms: int
    cert_expires_ms: int
    version: str
    found_at: str
    def __init__(self, id: _Optional[str] = ..., address: _Optional[str] = ..., role: _Optional[str] = ..., connected: _Optional[bool] = ..., voter: _Optional[bool] = ..., match_index: _Optional[int] = ..., lag: _Optional[int] = ..., last_contact_ms: _Optional[int] = ..., cert_expires_ms: _Optional[int] = ..., version: _Optional[str] = ..., found_at: _Optional[str] = ...) -> None: ...

class ClusterStatusRequest(_message.Message):
    __slots__ = ("read",)
    READ_FIELD_NUMBER: _ClassVar[int]
    read: ReadOptions
    def __init__(self, read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class ClusterStatusResponse(_message.Message):
    __slots__ = ("cluster_id", "cluster_name", "leader_id", "term", "commit_index", "applied_index", "peers", "jobs", "nodes", "allocations", "dev", "read", "elections", "feature_level", "epoch", "waits_for")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_NAME_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    ALLOCATIONS_FIELD_NUMBER: _ClassVar[int]
    DEV_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    ELECTIONS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    cluster_name: str
    leader_id: str
    term: int
    commit_index: int
    applied_index: int
    peers: _containers.RepeatedCompositeFieldContainer[PeerInfo]
    jobs: int
    nodes: int
    allocations: int
    dev: bool
    read: ReadInfo
    elections: int
    feature_level: int
    epoch: int
    waits_for: str
    def __init__(self, cluster_id: _Optional[str] = ..., cluster_name: _Optional[str] = ..., leader_id: _Optional[str] = ..., term: _Optional[int] = ..., commit_index: _Optional[int] = ..., applied_index: _Optional[int] = ..., peers: _Optional[_Iterable[_Union[PeerInfo, _Mapping]]] = ..., jobs: _Optional[int] = ..., nodes: _Optional[int] = ..., allocations: _Optional[int] = ..., dev: _Optional[bool] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ..., elections: _Optional[int] = ..., feature_level: _Optional[int] = ..., epoch: _Optional[int] = ..., waits_for: _Optional[str] = ...) -> None: ...

class ChangePeersRequest(_message.Message):
    __slots__ = ("request_id", "add", "remove", "expect_epoch")
    class AddEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    EXPECT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    add: _containers.ScalarMap[str, str]
    remove: _containers.RepeatedScalarFieldContainer[str]
    expect_epoch: int
    def __init__(self, request_id: _Optional[str] = ..., add: _Optional[_Mapping[str, str]] = ..., remove: _Optional[_Iterable[str]] = ..., expect_epoch: _Optional[int] = ...) -> None: ...

class ChangePeersResponse(_message.Message):
    __slots__ = ("index", "epoch", "peers")
    class PeersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    INDEX_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    index: int
    epoch: int
    peers: _containers.ScalarMap[str, str]
    def __init__(self, index: _Optional[int] = ..., epoch: _Optional[int] = ..., peers: _Optional[_Mapping[str, str]] = ...) -> None: ...

class StateHashRequest(_message.Message):
    __slots__ = ("at_index", "peer_id")
    AT_INDEX_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    at_index: int
    peer_id: str
    def __init__(self, at_index: _Optional[int] = ..., peer_id: _Optional[str] = ...) -> None: ...

class StateHashResponse(_message.Message):
    __slots__ = ("hash", "index", "peer_id")
    HASH_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    hash: str
    index: int
    peer_id: str
    def __init__(self, hash: _Optional[str] = ..., index: _Optional[int] = ..., peer_id: _Optional[str] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ("read",)
    READ_FIELD_NUMBER: _ClassVar[int]
    read: ReadOptions
    def __init__(self, read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class BackupHead(_message.Message):
    __slots__ = ("format", "cluster_id", "cluster_name", "peer_id", "index", "time_ms", "taken_ms", "age_ms", "stale", "term", "entry_index", "size_bytes", "jobs", "nodes", "allocations", "variables", "version")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_NAME_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    TAKEN_MS_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    ENTRY_INDEX_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    ALLOCATIONS_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    format: int
    cluster_id: str
    cluster_name: str
    peer_id: str
    index: int
    time_ms: int
    taken_ms: int
    age_ms: int
    stale: bool
    term: int
    entry_index: int
    size_bytes: int
    jobs: int
    nodes: int
    allocations: int
    variables: int
    version: str
    def __init__(self, format: _Optional[int] = ..., cluster_id: _Optional[str] = ..., cluster_name: _Optional[str] = ..., peer_id: _Optional[str] = ..., index: _Optional[int] = ..., time_ms: _Optional[int] = ..., taken_ms: _Optional[int] = ..., age_ms: _Optional[int] = ..., stale: _Optional[bool] = ..., term: _Optional[int] = ..., entry_index: _Optional[int] = ..., size_bytes: _Optional[int] = ..., jobs: _Optional[int] = ..., nodes: _Optional[int] = ..., allocations: _Optional[int] = ..., variables: _Optional[int] = ..., version: _Optional[str] = ...) -> None: ...

class BackupPart(_message.Message):
    __slots__ = ("head", "data", "sha256")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    head: BackupHead
    data: bytes
    sha256: bytes
    def __init__(self, head: _Optional[_Union[BackupHead, _Mapping]] = ..., data: _Optional[bytes] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("after_index", "namespace", "kinds", "job")
    AFTER_INDEX_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    after_index: int
    namespace: str
    kinds: _containers.RepeatedScalarFieldContainer[str]
    job: str
    def __init__(self, after_index: _Optional[int] = ..., namespace: _Optional[str] = ..., kinds: _Optional[_Iterable[str]] = ..., job: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("index", "sequence", "time_ms", "kind", "namespace", "job", "allocation", "node_id", "message", "attempt")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    ALLOCATION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    index: int
    sequence: int
    time_ms: int
    kind: str
    namespace: str
    job: str
    allocation: str
    node_id: str
    message: str
    attempt: int
    def __init__(self, index: _Optional[int] = ..., sequence: _Optional[int] = ..., time_ms: _Optional[int] = ..., kind: _Optional[str] = ..., namespace: _Optional[str] = ..., job: _Optional[str] = ..., allocation: _Optional[str] = ..., node_id: _Optional[str] = ..., message: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class GetLimitsRequest(_message.Message):
    __slots__ = ("read",)
    READ_FIELD_NUMBER: _ClassVar[int]
    read: ReadOptions
    def __init__(self, read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class GetLimitsResponse(_message.Message):
    __slots__ = ("limits", "read", "placements")
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    limits: _types_pb2.Limits
    read: ReadInfo
    placements: _containers.RepeatedCompositeFieldContainer[PlacementInfo]
    def __init__(self, limits: _Optional[_Union[_types_pb2.Limits, _Mapping]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ..., placements: _Optional[_Iterable[_Union[PlacementInfo, _Mapping]]] = ...) -> None: ...

class PlacementInfo(_message.Message):
    __slots__ = ("name", "summary")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    name: str
    summary: str
    def __init__(self, name: _Optional[str] = ..., summary: _Optional[str] = ...) -> None: ...

class SetLimitsRequest(_message.Message):
    __slots__ = ("request_id", "change")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    change: _types_pb2.LimitsChange
    def __init__(self, request_id: _Optional[str] = ..., change: _Optional[_Union[_types_pb2.LimitsChange, _Mapping]] = ...) -> None: ...

class GetSettingsRequest(_message.Message):
    __slots__ = ("read",)
    READ_FIELD_NUMBER: _ClassVar[int]
    read: ReadOptions
    def __init__(self, read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class GetSettingsResponse(_message.Message):
    __slots__ = ("settings", "read")
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    settings: _types_pb2.Settings
    read: ReadInfo
    def __init__(self, settings: _Optional[_Union[_types_pb2.Settings, _Mapping]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class SetSettingsRequest(_message.Message):
    __slots__ = ("request_id", "change")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    change: _types_pb2.SettingsChange
    def __init__(self, request_id: _Optional[str] = ..., change: _Optional[_Union[_types_pb2.SettingsChange, _Mapping]] = ...) -> None: ...

class ListNamespacesRequest(_message.Message):
    __slots__ = ("read",)
    READ_FIELD_NUMBER: _ClassVar[int]
    read: ReadOptions
    def __init__(self, read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class NamespaceStatus(_message.Message):
    __slots__ = ("namespace", "used")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    namespace: _types_pb2.Namespace
    used: _types_pb2.Usage
    def __init__(self, namespace: _Optional[_Union[_types_pb2.Namespace, _Mapping]] = ..., used: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ...) -> None: ...

class ListNamespacesResponse(_message.Message):
    __slots__ = ("namespaces", "read")
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    namespaces: _containers.RepeatedCompositeFieldContainer[NamespaceStatus]
    read: ReadInfo
    def __init__(self, namespaces: _Optional[_Iterable[_Union[NamespaceStatus, _Mapping]]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class NamespaceRequest(_message.Message):
    __slots__ = ("request_id", "name", "quota")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    quota: _types_pb2.Quota
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., quota: _Optional[_Union[_types_pb2.Quota, _Mapping]] = ...) -> None: ...

class Variable(_message.Message):
    __slots__ = ("namespace", "name", "value", "version", "create_index", "modify_index")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATE_INDEX_FIELD_NUMBER: _ClassVar[int]
    MODIFY_INDEX_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    value: str
    version: int
    create_index: int
    modify_index: int
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., value: _Optional[str] = ..., version: _Optional[int] = ..., create_index: _Optional[int] = ..., modify_index: _Optional[int] = ...) -> None: ...

class PutVariableRequest(_message.Message):
    __slots__ = ("request_id", "namespace", "name", "value")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    namespace: str
    name: str
    value: str
    def __init__(self, request_id: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class GetVariableRequest(_message.Message):
    __slots__ = ("namespace", "name", "read")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    read: ReadOptions
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class CompareAndSetVariableRequest(_message.Message):
    __slots__ = ("request_id", "namespace", "name", "expect", "value")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXPECT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    namespace: str
    name: str
    expect: str
    value: str
    def __init__(self, request_id: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., expect: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class DeleteVariableRequest(_message.Message):
    __slots__ = ("request_id", "namespace", "name", "expect")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXPECT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    namespace: str
    name: str
    expect: str
    def __init__(self, request_id: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., expect: _Optional[str] = ...) -> None: ...

class VariableWrite(_message.Message):
    __slots__ = ("name", "value", "absent", "expect")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    EXPECT_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    absent: bool
    expect: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., absent: _Optional[bool] = ..., expect: _Optional[str] = ...) -> None: ...

class PutVariablesRequest(_message.Message):
    __slots__ = ("request_id", "namespace", "writes")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    namespace: str
    writes: _containers.RepeatedCompositeFieldContainer[VariableWrite]
    def __init__(self, request_id: _Optional[str] = ..., namespace: _Optional[str] = ..., writes: _Optional[_Iterable[_Union[VariableWrite, _Mapping]]] = ...) -> None: ...

class PutVariablesResponse(_message.Message):
    __slots__ = ("answers",)
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[VariableResponse]
    def __init__(self, answers: _Optional[_Iterable[_Union[VariableResponse, _Mapping]]] = ...) -> None: ...

class VariableResponse(_message.Message):
    __slots__ = ("variable", "index", "hit", "read")
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    HIT_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    variable: Variable
    index: int
    hit: bool
    read: ReadInfo
    def __init__(self, variable: _Optional[_Union[Variable, _Mapping]] = ..., index: _Optional[int] = ..., hit: _Optional[bool] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class ListVariablesRequest(_message.Message):
    __slots__ = ("namespace", "prefix", "read")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    prefix: str
    read: ReadOptions
    def __init__(self, namespace: _Optional[str] = ..., prefix: _Optional[str] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class ListVariablesResponse(_message.Message):
    __slots__ = ("variables", "read")
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    variables: _containers.RepeatedCompositeFieldContainer[Variable]
    read: ReadInfo
    def __init__(self, variables: _Optional[_Iterable[_Union[Variable, _Mapping]]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class ExplainPastRequest(_message.Message):
    __slots__ = ("job", "at_index", "at_time_ms", "here_only")
    JOB_FIELD_NUMBER: _ClassVar[int]
    AT_INDEX_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    HERE_ONLY_FIELD_NUMBER: _ClassVar[int]
    job: JobKey
    at_index: int
    at_time_ms: int
    here_only: bool
    def __init__(self, job: _Optional[_Union[JobKey, _Mapping]] = ..., at_index: _Optional[int] = ..., at_time_ms: _Optional[int] = ..., here_only: _Optional[bool] = ...) -> None: ...

class KnownSpan(_message.Message):
    __slots__ = ("first_index", "first_time_ms", "last_index", "last_time_ms")
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    FIRST_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    first_index: int
    first_time_ms: int
    last_index: int
    last_time_ms: int
    def __init__(self, first_index: _Optional[int] = ..., first_time_ms: _Optional[int] = ..., last_index: _Optional[int] = ..., last_time_ms: _Optional[int] = ...) -> None: ...

class ExplainPastResponse(_message.Message):
    __slots__ = ("groups", "summary", "index", "time_ms", "known", "read")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[GroupExplanation]
    summary: str
    index: int
    time_ms: int
    known: _containers.RepeatedCompositeFieldContainer[KnownSpan]
    read: ReadInfo
    def __init__(self, groups: _Optional[_Iterable[_Union[GroupExplanation, _Mapping]]] = ..., summary: _Optional[str] = ..., index: _Optional[int] = ..., time_ms: _Optional[int] = ..., known: _Optional[_Iterable[_Union[KnownSpan, _Mapping]]] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("drain", "lose", "submit", "add_node", "like", "count")
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    LOSE_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    ADD_NODE_FIELD_NUMBER: _ClassVar[int]
    LIKE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    drain: str
    lose: str
    submit: _types_pb2.JobSpec
    add_node: _types_pb2.NodeSpec
    like: str
    count: int
    def __init__(self, drain: _Optional[str] = ..., lose: _Optional[str] = ..., submit: _Optional[_Union[_types_pb2.JobSpec, _Mapping]] = ..., add_node: _Optional[_Union[_types_pb2.NodeSpec, _Mapping]] = ..., like: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class WhatIfRequest(_message.Message):
    __slots__ = ("changes", "read")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    read: ReadOptions
    def __init__(self, changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("id", "kind", "from_node", "to_node", "from_devices", "to_devices", "reason", "anyway")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FROM_NODE_FIELD_NUMBER: _ClassVar[int]
    TO_NODE_FIELD_NUMBER: _ClassVar[int]
    FROM_DEVICES_FIELD_NUMBER: _ClassVar[int]
    TO_DEVICES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ANYWAY_FIELD_NUMBER: _ClassVar[int]
    id: _types_pb2.AllocationId
    kind: str
    from_node: str
    to_node: str
    from_devices: _containers.RepeatedScalarFieldContainer[str]
    to_devices: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    anyway: bool
    def __init__(self, id: _Optional[_Union[_types_pb2.AllocationId, _Mapping]] = ..., kind: _Optional[str] = ..., from_node: _Optional[str] = ..., to_node: _Optional[str] = ..., from_devices: _Optional[_Iterable[str]] = ..., to_devices: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., anyway: _Optional[bool] = ...) -> None: ...

class PendingGroup(_message.Message):
    __slots__ = ("namespace", "job", "before", "after", "why")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    job: str
    before: int
    after: int
    why: GroupExplanation
    def __init__(self, namespace: _Optional[str] = ..., job: _Optional[str] = ..., before: _Optional[int] = ..., after: _Optional[int] = ..., why: _Optional[_Union[GroupExplanation, _Mapping]] = ...) -> None: ...

class WhatIfResponse(_message.Message):
    __slots__ = ("outcomes", "pending", "pending_before", "pending_after", "nodes_used_before", "nodes_used_after", "rounds", "settled", "left_out", "read", "takes_ms")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    PENDING_BEFORE_FIELD_NUMBER: _ClassVar[int]
    PENDING_AFTER_FIELD_NUMBER: _ClassVar[int]
    NODES_USED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    NODES_USED_AFTER_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    TAKES_MS_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    pending: _containers.RepeatedCompositeFieldContainer[PendingGroup]
    pending_before: int
    pending_after: int
    nodes_used_before: int
    nodes_used_after: int
    rounds: int
    settled: bool
    left_out: int
    read: ReadInfo
    takes_ms: int
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., pending: _Optional[_Iterable[_Union[PendingGroup, _Mapping]]] = ..., pending_before: _Optional[int] = ..., pending_after: _Optional[int] = ..., nodes_used_before: _Optional[int] = ..., nodes_used_after: _Optional[int] = ..., rounds: _Optional[int] = ..., settled: _Optional[bool] = ..., left_out: _Optional[int] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ..., takes_ms: _Optional[int] = ...) -> None: ...

class PlanJobRequest(_message.Message):
    __slots__ = ("job", "read")
    JOB_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    job: _types_pb2.JobSpec
    read: ReadOptions
    def __init__(self, job: _Optional[_Union[_types_pb2.JobSpec, _Mapping]] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class FieldChange(_message.Message):
    __slots__ = ("path", "kind", "before", "after")
    PATH_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    path: str
    kind: str
    before: str
    after: str
    def __init__(self, path: _Optional[str] = ..., kind: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class PlanJobResponse(_message.Message):
    __slots__ = ("change", "version", "next_version", "fields", "what_if")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NEXT_VERSION_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    WHAT_IF_FIELD_NUMBER: _ClassVar[int]
    change: str
    version: int
    next_version: int
    fields: _containers.RepeatedCompositeFieldContainer[FieldChange]
    what_if: WhatIfResponse
    def __init__(self, change: _Optional[str] = ..., version: _Optional[int] = ..., next_version: _Optional[int] = ..., fields: _Optional[_Iterable[_Union[FieldChange, _Mapping]]] = ..., what_if: _Optional[_Union[WhatIfResponse, _Mapping]] = ...) -> None: ...

class Balance(_message.Message):
    __slots__ = ("nodes_used", "nodes", "highest", "lowest", "squares", "pending")
    NODES_USED_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_FIELD_NUMBER: _ClassVar[int]
    LOWEST_FIELD_NUMBER: _ClassVar[int]
    SQUARES_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    nodes_used: int
    nodes: int
    highest: int
    lowest: int
    squares: int
    pending: int
    def __init__(self, nodes_used: _Optional[int] = ..., nodes: _Optional[int] = ..., highest: _Optional[int] = ..., lowest: _Optional[int] = ..., squares: _Optional[int] = ..., pending: _Optional[int] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("id", "attempt", "from_node", "to_node")
    ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FROM_NODE_FIELD_NUMBER: _ClassVar[int]
    TO_NODE_FIELD_NUMBER: _ClassVar[int]
    id: _types_pb2.AllocationId
    attempt: int
    from_node: str
    to_node: str
    def __init__(self, id: _Optional[_Union[_types_pb2.AllocationId, _Mapping]] = ..., attempt: _Optional[int] = ..., from_node: _Optional[str] = ..., to_node: _Optional[str] = ...) -> None: ...

class RebalanceRequest(_message.Message):
    __slots__ = ("goal", "moves_max", "read")
    GOAL_FIELD_NUMBER: _ClassVar[int]
    MOVES_MAX_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    goal: str
    moves_max: int
    read: ReadOptions
    def __init__(self, goal: _Optional[str] = ..., moves_max: _Optional[int] = ..., read: _Optional[_Union[ReadOptions, _Mapping]] = ...) -> None: ...

class RebalanceResponse(_message.Message):
    __slots__ = ("goal", "moves", "before", "after", "more", "note", "read")
    GOAL_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    goal: str
    moves: _containers.RepeatedCompositeFieldContainer[Move]
    before: Balance
    after: Balance
    more: bool
    note: str
    read: ReadInfo
    def __init__(self, goal: _Optional[str] = ..., moves: _Optional[_Iterable[_Union[Move, _Mapping]]] = ..., before: _Optional[_Union[Balance, _Mapping]] = ..., after: _Optional[_Union[Balance, _Mapping]] = ..., more: _Optional[bool] = ..., note: _Optional[str] = ..., read: _Optional[_Union[ReadInfo, _Mapping]] = ...) -> None: ...

class MoveAllocationRequest(_message.Message):
    __slots__ = ("request_id", "id", "attempt")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    id: _types_pb2.AllocationId
    attempt: int
    def __init__(self, request_id: _Optional[str] = ..., id: _Optional[_Union[_types_pb2.AllocationId, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...
