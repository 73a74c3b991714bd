from orchestrator.contract.v1 import agent_pb2 as _agent_pb2
from orchestrator.contract.v1 import control_pb2 as _control_pb2
from orchestrator.contract.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LogEntry(_message.Message):
    __slots__ = ("magic", "format", "identity", "request_id", "digest", "time_ms", "submit_jobs", "stop_job", "scale_job", "restart_job", "remove_job", "register_node", "cordon_node", "drain_node", "forget_node", "mark_nodes", "apply_plan", "record_statuses", "write_variable", "collect", "admit_peers", "set_feature_level", "change_peers", "set_limits", "write_variables", "record_observed", "write_namespace", "set_settings", "cordon_device", "move_allocation", "taint_node", "pin_image", "record_progress", "steer_rollout", "rollback_job", "end_rollouts", "launch_runs", "dispatch_job", "force_run")
    MAGIC_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_JOBS_FIELD_NUMBER: _ClassVar[int]
    STOP_JOB_FIELD_NUMBER: _ClassVar[int]
    SCALE_JOB_FIELD_NUMBER: _ClassVar[int]
    RESTART_JOB_FIELD_NUMBER: _ClassVar[int]
    REMOVE_JOB_FIELD_NUMBER: _ClassVar[int]
    REGISTER_NODE_FIELD_NUMBER: _ClassVar[int]
    CORDON_NODE_FIELD_NUMBER: _ClassVar[int]
    DRAIN_NODE_FIELD_NUMBER: _ClassVar[int]
    FORGET_NODE_FIELD_NUMBER: _ClassVar[int]
    MARK_NODES_FIELD_NUMBER: _ClassVar[int]
    APPLY_PLAN_FIELD_NUMBER: _ClassVar[int]
    RECORD_STATUSES_FIELD_NUMBER: _ClassVar[int]
    WRITE_VARIABLE_FIELD_NUMBER: _ClassVar[int]
    COLLECT_FIELD_NUMBER: _ClassVar[int]
    ADMIT_PEERS_FIELD_NUMBER: _ClassVar[int]
    SET_FEATURE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    CHANGE_PEERS_FIELD_NUMBER: _ClassVar[int]
    SET_LIMITS_FIELD_NUMBER: _ClassVar[int]
    WRITE_VARIABLES_FIELD_NUMBER: _ClassVar[int]
    RECORD_OBSERVED_FIELD_NUMBER: _ClassVar[int]
    WRITE_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SET_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    CORDON_DEVICE_FIELD_NUMBER: _ClassVar[int]
    MOVE_ALLOCATION_FIELD_NUMBER: _ClassVar[int]
    TAINT_NODE_FIELD_NUMBER: _ClassVar[int]
    PIN_IMAGE_FIELD_NUMBER: _ClassVar[int]
    RECORD_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    STEER_ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_JOB_FIELD_NUMBER: _ClassVar[int]
    END_ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_RUNS_FIELD_NUMBER: _ClassVar[int]
    DISPATCH_JOB_FIELD_NUMBER: _ClassVar[int]
    FORCE_RUN_FIELD_NUMBER: _ClassVar[int]
    magic: int
    format: int
    identity: str
    request_id: str
    digest: bytes
    time_ms: int
    submit_jobs: SubmitJobs
    stop_job: StopJob
    scale_job: ScaleJob
    restart_job: RestartJob
    remove_job: RemoveJob
    register_node: RegisterNode
    cordon_node: CordonNode
    drain_node: DrainNode
    forget_node: ForgetNode
    mark_nodes: MarkNodes
    apply_plan: ApplyPlan
    record_statuses: RecordStatuses
    write_variable: WriteVariable
    collect: Collect
    admit_peers: AdmitPeers
    set_feature_level: SetFeatureLevel
    change_peers: ChangePeers
    set_limits: SetLimits
    write_variables: WriteVariables
    record_observed: RecordObserved
    write_namespace: WriteNamespace
    set_settings: SetSettings
    cordon_device: CordonDevice
    move_allocation: MoveAllocation
    taint_node: TaintNode
    pin_image: PinImage
    record_progress: RecordProgress
    steer_rollout: SteerRollout
    rollback_job: RollbackJob
    end_rollouts: EndRollouts
    launch_runs: LaunchRuns
    dispatch_job: DispatchJob
    force_run: ForceRun
    def __init__(self, magic: _Optional[int] = ..., format: _Optional[int] = ..., identity: _Optional[str] = ..., request_id: _Optional[str] = ..., digest: _Optional[bytes] = ..., time_ms: _Optional[int] = ..., submit_jobs: _Optional[_Union[SubmitJobs, _Mapping]] = ..., stop_job: _Optional[_Union[StopJob, _Mapping]] = ..., scale_job: _Optional[_Union[ScaleJob, _Mapping]] = ..., restart_job: _Optional[_Union[RestartJob, _Mapping]] = ..., remove_job: _Optional[_Union[RemoveJob, _Mapping]] = ..., register_node: _Optional[_Union[RegisterNode, _Mapping]] = ..., cordon_node: _Optional[_Union[CordonNode, _Mapping]] = ..., drain_node: _Optional[_Union[DrainNode, _Mapping]] = ..., forget_node: _Optional[_Union[ForgetNode, _Mapping]] = ..., mark_nodes: _Optional[_Union[MarkNodes, _Mapping]] = ..., apply_plan: _Optional[_Union[ApplyPlan, _Mapping]] = ..., record_statuses: _Optional[_Union[RecordStatuses, _Mapping]] = ..., write_variable: _Optional[_Union[WriteVariable, _Mapping]] = ..., collect: _Optional[_Union[Collect, _Mapping]] = ..., admit_peers: _Optional[_Union[AdmitPeers, _Mapping]] = ..., set_feature_level: _Optional[_Union[SetFeatureLevel, _Mapping]] = ..., change_peers: _Optional[_Union[ChangePeers, _Mapping]] = ..., set_limits: _Optional[_Union[SetLimits, _Mapping]] = ..., write_variables: _Optional[_Union[WriteVariables, _Mapping]] = ..., record_observed: _Optional[_Union[RecordObserved, _Mapping]] = ..., write_namespace: _Optional[_Union[WriteNamespace, _Mapping]] = ..., set_settings: _Optional[_Union[SetSettings, _Mapping]] = ..., cordon_device: _Optional[_Union[CordonDevice, _Mapping]] = ..., move_allocation: _Optional[_Union[MoveAllocation, _Mapping]] = ..., taint_node: _Optional[_Union[TaintNode, _Mapping]] = ..., pin_image: _Optional[_Union[PinImage, _Mapping]] = ..., record_progress: _Optional[_Union[RecordProgress, _Mapping]] = ..., steer_rollout: _Optional[_Union[SteerRollout, _Mapping]] = ..., rollback_job: _Optional[_Union[RollbackJob, _Mapping]] = ..., end_rollouts: _Optional[_Union[EndRollouts, _Mapping]] = ..., launch_runs: _Optional[_Union[LaunchRuns, _Mapping]] = ..., dispatch_job: _Optional[_Union[DispatchJob, _Mapping]] = ..., force_run: _Optional[_Union[ForceRun, _Mapping]] = ...) -> None: ...

class JobSubmission(_message.Message):
    __slots__ = ("spec", "uid", "expect_version", "in_place", "remember")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    EXPECT_VERSION_FIELD_NUMBER: _ClassVar[int]
    IN_PLACE_FIELD_NUMBER: _ClassVar[int]
    REMEMBER_FIELD_NUMBER: _ClassVar[int]
    spec: _types_pb2.JobSpec
    uid: str
    expect_version: int
    in_place: bool
    remember: bool
    def __init__(self, spec: _Optional[_Union[_types_pb2.JobSpec, _Mapping]] = ..., uid: _Optional[str] = ..., expect_version: _Optional[int] = ..., in_place: _Optional[bool] = ..., remember: _Optional[bool] = ...) -> None: ...

class PinImage(_message.Message):
    __slots__ = ("job_uid", "group", "version", "image", "digest")
    JOB_UID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    job_uid: str
    group: str
    version: int
    image: str
    digest: str
    def __init__(self, job_uid: _Optional[str] = ..., group: _Optional[str] = ..., version: _Optional[int] = ..., image: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class StartProgress(_message.Message):
    __slots__ = ("job_uid", "group", "ordinal", "attempt", "text")
    JOB_UID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    job_uid: str
    group: str
    ordinal: int
    attempt: int
    text: str
    def __init__(self, job_uid: _Optional[str] = ..., group: _Optional[str] = ..., ordinal: _Optional[int] = ..., attempt: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class RecordProgress(_message.Message):
    __slots__ = ("node_id", "progress")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    progress: _containers.RepeatedCompositeFieldContainer[StartProgress]
    def __init__(self, node_id: _Optional[str] = ..., progress: _Optional[_Iterable[_Union[StartProgress, _Mapping]]] = ...) -> None: ...

class SubmitJobs(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[JobSubmission]
    def __init__(self, jobs: _Optional[_Iterable[_Union[JobSubmission, _Mapping]]] = ...) -> None: ...

class StopJob(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ScaleJob(_message.Message):
    __slots__ = ("namespace", "name", "group", "count")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    group: str
    count: int
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., group: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class RestartJob(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class SteerRollout(_message.Message):
    __slots__ = ("namespace", "name", "action")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    action: _types_pb2.RolloutAction
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., action: _Optional[_Union[_types_pb2.RolloutAction, str]] = ...) -> None: ...

class RollbackJob(_message.Message):
    __slots__ = ("namespace", "name", "version")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    version: int
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class RolloutVerdict(_message.Message):
    __slots__ = ("uid", "version", "succeeded", "reason", "progress_ms")
    UID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_MS_FIELD_NUMBER: _ClassVar[int]
    uid: str
    version: int
    succeeded: bool
    reason: str
    progress_ms: int
    def __init__(self, uid: _Optional[str] = ..., version: _Optional[int] = ..., succeeded: _Optional[bool] = ..., reason: _Optional[str] = ..., progress_ms: _Optional[int] = ...) -> None: ...

class EndRollouts(_message.Message):
    __slots__ = ("verdicts",)
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedCompositeFieldContainer[RolloutVerdict]
    def __init__(self, verdicts: _Optional[_Iterable[_Union[RolloutVerdict, _Mapping]]] = ...) -> None: ...

class Launch(_message.Message):
    __slots__ = ("uid", "version", "after_ms", "due_ms", "child_uid", "skip")
    UID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    DUE_MS_FIELD_NUMBER: _ClassVar[int]
    CHILD_UID_FIELD_NUMBER: _ClassVar[int]
    SKIP_FIELD_NUMBER: _ClassVar[int]
    uid: str
    version: int
    after_ms: int
    due_ms: int
    child_uid: str
    skip: str
    def __init__(self, uid: _Optional[str] = ..., version: _Optional[int] = ..., after_ms: _Optional[int] = ..., due_ms: _Optional[int] = ..., child_uid: _Optional[str] = ..., skip: _Optional[str] = ...) -> None: ...

class LaunchRuns(_message.Message):
    __slots__ = ("launches",)
    LAUNCHES_FIELD_NUMBER: _ClassVar[int]
    launches: _containers.RepeatedCompositeFieldContainer[Launch]
    def __init__(self, launches: _Optional[_Iterable[_Union[Launch, _Mapping]]] = ...) -> None: ...

class DispatchJob(_message.Message):
    __slots__ = ("namespace", "name", "uid", "meta", "payload")
    class MetaEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    uid: str
    meta: _containers.ScalarMap[str, str]
    payload: bytes
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., uid: _Optional[str] = ..., meta: _Optional[_Mapping[str, str]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class ForceRun(_message.Message):
    __slots__ = ("namespace", "name", "uid")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    uid: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., uid: _Optional[str] = ...) -> None: ...

class RemoveJob(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class MoveAllocation(_message.Message):
    __slots__ = ("namespace", "name", "group", "ordinal", "attempt")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    group: str
    ordinal: int
    attempt: int
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., group: _Optional[str] = ..., ordinal: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class RegisterNode(_message.Message):
    __slots__ = ("node", "identity")
    NODE_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    node: _types_pb2.NodeSpec
    identity: str
    def __init__(self, node: _Optional[_Union[_types_pb2.NodeSpec, _Mapping]] = ..., identity: _Optional[str] = ...) -> None: ...

class CordonNode(_message.Message):
    __slots__ = ("node_id", "cordoned")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    cordoned: bool
    def __init__(self, node_id: _Optional[str] = ..., cordoned: _Optional[bool] = ...) -> None: ...

class CordonDevice(_message.Message):
    __slots__ = ("node_id", "device_id", "cordoned")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    device_id: str
    cordoned: bool
    def __init__(self, node_id: _Optional[str] = ..., device_id: _Optional[str] = ..., cordoned: _Optional[bool] = ...) -> None: ...

class DrainNode(_message.Message):
    __slots__ = ("node_id", "deadline_after_ms", "cancel", "keep_cordoned")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    KEEP_CORDONED_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    deadline_after_ms: int
    cancel: bool
    keep_cordoned: bool
    def __init__(self, node_id: _Optional[str] = ..., deadline_after_ms: _Optional[int] = ..., cancel: _Optional[bool] = ..., keep_cordoned: _Optional[bool] = ...) -> None: ...

class ForgetNode(_message.Message):
    __slots__ = ("node_id",)
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    def __init__(self, node_id: _Optional[str] = ...) -> None: ...

class TaintNode(_message.Message):
    __slots__ = ("node_id", "put", "drop")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    put: _containers.RepeatedCompositeFieldContainer[_types_pb2.Taint]
    drop: _containers.RepeatedCompositeFieldContainer[_control_pb2.TaintKey]
    def __init__(self, node_id: _Optional[str] = ..., put: _Optional[_Iterable[_Union[_types_pb2.Taint, _Mapping]]] = ..., drop: _Optional[_Iterable[_Union[_control_pb2.TaintKey, _Mapping]]] = ...) -> None: ...

class NodeMark(_message.Message):
    __slots__ = ("node_id", "register_index", "reason")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    REGISTER_INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    register_index: int
    reason: str
    def __init__(self, node_id: _Optional[str] = ..., register_index: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class MarkNodes(_message.Message):
    __slots__ = ("lost", "back", "brake")
    LOST_FIELD_NUMBER: _ClassVar[int]
    BACK_FIELD_NUMBER: _ClassVar[int]
    BRAKE_FIELD_NUMBER: _ClassVar[int]
    lost: _containers.RepeatedCompositeFieldContainer[NodeMark]
    back: _containers.RepeatedCompositeFieldContainer[NodeMark]
    brake: str
    def __init__(self, lost: _Optional[_Iterable[_Union[NodeMark, _Mapping]]] = ..., back: _Optional[_Iterable[_Union[NodeMark, _Mapping]]] = ..., brake: _Optional[str] = ...) -> None: ...

class SetLimits(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: _types_pb2.LimitsChange
    def __init__(self, change: _Optional[_Union[_types_pb2.LimitsChange, _Mapping]] = ...) -> None: ...

class PlacementColumns(_message.Message):
    __slots__ = ("job", "group", "ordinal", "attempt", "version", "node", "device_mask", "gpu_millis", "ports", "port_offsets")
    JOB_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_MASK_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    PORT_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    job: bytes
    group: bytes
    ordinal: bytes
    attempt: bytes
    version: bytes
    node: bytes
    device_mask: bytes
    gpu_millis: bytes
    ports: bytes
    port_offsets: bytes
    def __init__(self, job: _Optional[bytes] = ..., group: _Optional[bytes] = ..., ordinal: _Optional[bytes] = ..., attempt: _Optional[bytes] = ..., version: _Optional[bytes] = ..., node: _Optional[bytes] = ..., device_mask: _Optional[bytes] = ..., gpu_millis: _Optional[bytes] = ..., ports: _Optional[bytes] = ..., port_offsets: _Optional[bytes] = ...) -> None: ...

class ActionColumns(_message.Message):
    __slots__ = ("job", "group", "ordinal", "attempt", "action", "reason", "version", "by")
    JOB_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    job: bytes
    group: bytes
    ordinal: bytes
    attempt: bytes
    action: bytes
    reason: bytes
    version: bytes
    by: bytes
    def __init__(self, job: _Optional[bytes] = ..., group: _Optional[bytes] = ..., ordinal: _Optional[bytes] = ..., attempt: _Optional[bytes] = ..., action: _Optional[bytes] = ..., reason: _Optional[bytes] = ..., version: _Optional[bytes] = ..., by: _Optional[bytes] = ...) -> None: ...

class ApplyPlan(_message.Message):
    __slots__ = ("based_on", "jobs", "nodes", "reasons", "actions", "placements")
    BASED_ON_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    based_on: int
    jobs: _containers.RepeatedScalarFieldContainer[str]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    reasons: _containers.RepeatedScalarFieldContainer[str]
    actions: ActionColumns
    placements: PlacementColumns
    def __init__(self, based_on: _Optional[int] = ..., jobs: _Optional[_Iterable[str]] = ..., nodes: _Optional[_Iterable[str]] = ..., reasons: _Optional[_Iterable[str]] = ..., actions: _Optional[_Union[ActionColumns, _Mapping]] = ..., placements: _Optional[_Union[PlacementColumns, _Mapping]] = ...) -> None: ...

class RecordStatuses(_message.Message):
    __slots__ = ("node_id", "observations")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    observations: _containers.RepeatedCompositeFieldContainer[_agent_pb2.Observation]
    def __init__(self, node_id: _Optional[str] = ..., observations: _Optional[_Iterable[_Union[_agent_pb2.Observation, _Mapping]]] = ...) -> None: ...

class ObservationColumns(_message.Message):
    __slots__ = ("job", "group", "ordinal", "attempt", "restarts", "state", "exit_code", "reason", "start_failed", "health")
    JOB_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    START_FAILED_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    job: bytes
    group: bytes
    ordinal: bytes
    attempt: bytes
    restarts: bytes
    state: bytes
    exit_code: bytes
    reason: bytes
    start_failed: bytes
    health: bytes
    def __init__(self, job: _Optional[bytes] = ..., group: _Optional[bytes] = ..., ordinal: _Optional[bytes] = ..., attempt: _Optional[bytes] = ..., restarts: _Optional[bytes] = ..., state: _Optional[bytes] = ..., exit_code: _Optional[bytes] = ..., reason: _Optional[bytes] = ..., start_failed: _Optional[bytes] = ..., health: _Optional[bytes] = ...) -> None: ...

class RecordObserved(_message.Message):
    __slots__ = ("node_id", "jobs", "groups", "reasons", "rows")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    jobs: _containers.RepeatedScalarFieldContainer[str]
    groups: _containers.RepeatedScalarFieldContainer[str]
    reasons: _containers.RepeatedScalarFieldContainer[str]
    rows: ObservationColumns
    def __init__(self, node_id: _Optional[str] = ..., jobs: _Optional[_Iterable[str]] = ..., groups: _Optional[_Iterable[str]] = ..., reasons: _Optional[_Iterable[str]] = ..., rows: _Optional[_Union[ObservationColumns, _Mapping]] = ...) -> None: ...

class WriteVariable(_message.Message):
    __slots__ = ("namespace", "name", "value", "expectation", "expected")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EXPECTATION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    value: str
    expectation: int
    expected: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., value: _Optional[str] = ..., expectation: _Optional[int] = ..., expected: _Optional[str] = ...) -> None: ...

class WriteVariables(_message.Message):
    __slots__ = ("writes",)
    WRITES_FIELD_NUMBER: _ClassVar[int]
    writes: _containers.RepeatedCompositeFieldContainer[WriteVariable]
    def __init__(self, writes: _Optional[_Iterable[_Union[WriteVariable, _Mapping]]] = ...) -> None: ...

class Collect(_message.Message):
    __slots__ = ("max_rows",)
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    max_rows: int
    def __init__(self, max_rows: _Optional[int] = ...) -> None: ...

class WriteNamespace(_message.Message):
    __slots__ = ("name", "kind", "quota")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: int
    quota: _types_pb2.Quota
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[int] = ..., quota: _Optional[_Union[_types_pb2.Quota, _Mapping]] = ...) -> None: ...

class SetSettings(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: _types_pb2.SettingsChange
    def __init__(self, change: _Optional[_Union[_types_pb2.SettingsChange, _Mapping]] = ...) -> None: ...

class AdmitPeers(_message.Message):
    __slots__ = ("cluster_id", "incarnations")
    class IncarnationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATIONS_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    incarnations: _containers.ScalarMap[str, str]
    def __init__(self, cluster_id: _Optional[str] = ..., incarnations: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ChangePeers(_message.Message):
    __slots__ = ("expected_epoch", "addresses", "incarnations", "known")
    class AddressesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class IncarnationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class KnownEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    INCARNATIONS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    expected_epoch: int
    addresses: _containers.ScalarMap[str, str]
    incarnations: _containers.ScalarMap[str, str]
    known: _containers.ScalarMap[str, str]
    def __init__(self, expected_epoch: _Optional[int] = ..., addresses: _Optional[_Mapping[str, str]] = ..., incarnations: _Optional[_Mapping[str, str]] = ..., known: _Optional[_Mapping[str, str]] = ...) -> None: ...

class SetFeatureLevel(_message.Message):
    __slots__ = ("level",)
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: int
    def __init__(self, level: _Optional[int] = ...) -> None: ...

class WriteAnswer(_message.Message):
    __slots__ = ("changed",)
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    changed: bool
    def __init__(self, changed: _Optional[bool] = ...) -> None: ...

class JobAnswer(_message.Message):
    __slots__ = ("uid", "version", "changed", "name")
    UID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    uid: str
    version: int
    changed: bool
    name: str
    def __init__(self, uid: _Optional[str] = ..., version: _Optional[int] = ..., changed: _Optional[bool] = ..., name: _Optional[str] = ...) -> None: ...

class JobsAnswer(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[JobAnswer]
    def __init__(self, jobs: _Optional[_Iterable[_Union[JobAnswer, _Mapping]]] = ...) -> None: ...

class VariableAnswer(_message.Message):
    __slots__ = ("variable", "hit")
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    HIT_FIELD_NUMBER: _ClassVar[int]
    variable: _control_pb2.Variable
    hit: bool
    def __init__(self, variable: _Optional[_Union[_control_pb2.Variable, _Mapping]] = ..., hit: _Optional[bool] = ...) -> None: ...

class PinAnswer(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class PlanAnswer(_message.Message):
    __slots__ = ("placed", "acted", "rejected")
    PLACED_FIELD_NUMBER: _ClassVar[int]
    ACTED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    placed: int
    acted: int
    rejected: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, placed: _Optional[int] = ..., acted: _Optional[int] = ..., rejected: _Optional[_Iterable[str]] = ...) -> None: ...

class Rejected(_message.Message):
    __slots__ = ("index", "reason", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    index: int
    reason: str
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, index: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Remembered(_message.Message):
    __slots__ = ("identity", "request_id", "digest", "time_ms", "index", "write", "jobs", "variable", "plan", "rejected", "pin")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    identity: str
    request_id: str
    digest: bytes
    time_ms: int
    index: int
    write: WriteAnswer
    jobs: JobsAnswer
    variable: VariableAnswer
    plan: PlanAnswer
    rejected: Rejected
    pin: PinAnswer
    def __init__(self, identity: _Optional[str] = ..., request_id: _Optional[str] = ..., digest: _Optional[bytes] = ..., time_ms: _Optional[int] = ..., index: _Optional[int] = ..., write: _Optional[_Union[WriteAnswer, _Mapping]] = ..., jobs: _Optional[_Union[JobsAnswer, _Mapping]] = ..., variable: _Optional[_Union[VariableAnswer, _Mapping]] = ..., plan: _Optional[_Union[PlanAnswer, _Mapping]] = ..., rejected: _Optional[_Union[Rejected, _Mapping]] = ..., pin: _Optional[_Union[PinAnswer, _Mapping]] = ...) -> None: ...

class Schedule(_message.Message):
    __slots__ = ("since_ms", "last_ms", "last_job", "runs", "skipped", "last_skipped")
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_JOB_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    LAST_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    since_ms: int
    last_ms: int
    last_job: str
    runs: int
    skipped: int
    last_skipped: str
    def __init__(self, since_ms: _Optional[int] = ..., last_ms: _Optional[int] = ..., last_job: _Optional[str] = ..., runs: _Optional[int] = ..., skipped: _Optional[int] = ..., last_skipped: _Optional[str] = ...) -> None: ...

class JobVersion(_message.Message):
    __slots__ = ("version", "spec")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    version: int
    spec: _types_pb2.JobSpec
    def __init__(self, version: _Optional[int] = ..., spec: _Optional[_Union[_types_pb2.JobSpec, _Mapping]] = ...) -> None: ...

class Versions(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, versions: _Optional[_Iterable[int]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("tracked", "history", "rollout", "stable_version", "twins", "schedule", "slot", "uid", "version", "group_versions", "specs", "stopped", "removing", "submit_index", "create_index", "modify_index", "create_time_ms", "modify_time_ms", "pins")
    TRACKED_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    STABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    TWINS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GROUP_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SPECS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    REMOVING_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    CREATE_INDEX_FIELD_NUMBER: _ClassVar[int]
    MODIFY_INDEX_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    MODIFY_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    tracked: bool
    history: _containers.RepeatedCompositeFieldContainer[_types_pb2.Revision]
    rollout: _types_pb2.Rollout
    stable_version: int
    twins: _containers.RepeatedCompositeFieldContainer[Versions]
    schedule: Schedule
    slot: int
    uid: str
    version: int
    group_versions: _containers.RepeatedScalarFieldContainer[int]
    specs: _containers.RepeatedCompositeFieldContainer[JobVersion]
    stopped: bool
    removing: bool
    submit_index: int
    create_index: int
    modify_index: int
    create_time_ms: int
    modify_time_ms: int
    pins: _containers.RepeatedCompositeFieldContainer[ImagePin]
    def __init__(self, tracked: _Optional[bool] = ..., history: _Optional[_Iterable[_Union[_types_pb2.Revision, _Mapping]]] = ..., rollout: _Optional[_Union[_types_pb2.Rollout, _Mapping]] = ..., stable_version: _Optional[int] = ..., twins: _Optional[_Iterable[_Union[Versions, _Mapping]]] = ..., schedule: _Optional[_Union[Schedule, _Mapping]] = ..., slot: _Optional[int] = ..., uid: _Optional[str] = ..., version: _Optional[int] = ..., group_versions: _Optional[_Iterable[int]] = ..., specs: _Optional[_Iterable[_Union[JobVersion, _Mapping]]] = ..., stopped: _Optional[bool] = ..., removing: _Optional[bool] = ..., submit_index: _Optional[int] = ..., create_index: _Optional[int] = ..., modify_index: _Optional[int] = ..., create_time_ms: _Optional[int] = ..., modify_time_ms: _Optional[int] = ..., pins: _Optional[_Iterable[_Union[ImagePin, _Mapping]]] = ...) -> None: ...

class ImagePin(_message.Message):
    __slots__ = ("group", "version", "image", "digest")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    group: str
    version: int
    image: str
    digest: str
    def __init__(self, group: _Optional[str] = ..., version: _Optional[int] = ..., image: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("slot", "spec", "status", "cordoned", "draining", "identity", "register_index", "modify_index", "status_time_ms", "status_reason", "ceiling", "cordoned_devices", "taints", "drain_deadline_ms")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    REGISTER_INDEX_FIELD_NUMBER: _ClassVar[int]
    MODIFY_INDEX_FIELD_NUMBER: _ClassVar[int]
    STATUS_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    STATUS_REASON_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    CORDONED_DEVICES_FIELD_NUMBER: _ClassVar[int]
    TAINTS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    slot: int
    spec: _types_pb2.NodeSpec
    status: _types_pb2.NodeStatus
    cordoned: bool
    draining: bool
    identity: str
    register_index: int
    modify_index: int
    status_time_ms: int
    status_reason: str
    ceiling: _types_pb2.Resources
    cordoned_devices: _containers.RepeatedScalarFieldContainer[str]
    taints: _containers.RepeatedCompositeFieldContainer[_types_pb2.NodeTaint]
    drain_deadline_ms: int
    def __init__(self, slot: _Optional[int] = ..., spec: _Optional[_Union[_types_pb2.NodeSpec, _Mapping]] = ..., status: _Optional[_Union[_types_pb2.NodeStatus, str]] = ..., cordoned: _Optional[bool] = ..., draining: _Optional[bool] = ..., identity: _Optional[str] = ..., register_index: _Optional[int] = ..., modify_index: _Optional[int] = ..., status_time_ms: _Optional[int] = ..., status_reason: _Optional[str] = ..., ceiling: _Optional[_Union[_types_pb2.Resources, _Mapping]] = ..., cordoned_devices: _Optional[_Iterable[str]] = ..., taints: _Optional[_Iterable[_Union[_types_pb2.NodeTaint, _Mapping]]] = ..., drain_deadline_ms: _Optional[int] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("gid", "job_slot", "name", "last_attempt")
    GID_FIELD_NUMBER: _ClassVar[int]
    JOB_SLOT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LAST_ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    gid: int
    job_slot: int
    name: str
    last_attempt: bytes
    def __init__(self, gid: _Optional[int] = ..., job_slot: _Optional[int] = ..., name: _Optional[str] = ..., last_attempt: _Optional[bytes] = ...) -> None: ...

class RowPorts(_message.Message):
    __slots__ = ("row", "ports")
    ROW_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    row: int
    ports: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, row: _Optional[int] = ..., ports: _Optional[_Iterable[int]] = ...) -> None: ...

class RowHealth(_message.Message):
    __slots__ = ("row", "health")
    ROW_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    row: int
    health: int
    def __init__(self, row: _Optional[int] = ..., health: _Optional[int] = ...) -> None: ...

class RowReason(_message.Message):
    __slots__ = ("row", "reason")
    ROW_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    row: int
    reason: str
    def __init__(self, row: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Table(_message.Message):
    __slots__ = ("rows", "columns", "ports", "reasons", "health")
    class ColumnsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: _containers.ScalarMap[str, bytes]
    ports: _containers.RepeatedCompositeFieldContainer[RowPorts]
    reasons: _containers.RepeatedCompositeFieldContainer[RowReason]
    health: _containers.RepeatedCompositeFieldContainer[RowHealth]
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[_Mapping[str, bytes]] = ..., ports: _Optional[_Iterable[_Union[RowPorts, _Mapping]]] = ..., reasons: _Optional[_Iterable[_Union[RowReason, _Mapping]]] = ..., health: _Optional[_Iterable[_Union[RowHealth, _Mapping]]] = ...) -> None: ...

class SnapshotParts(_message.Message):
    __slots__ = ("magic", "format", "parts")
    MAGIC_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    magic: int
    format: int
    parts: _containers.RepeatedCompositeFieldContainer[Snapshot]
    def __init__(self, magic: _Optional[int] = ..., format: _Optional[int] = ..., parts: _Optional[_Iterable[_Union[Snapshot, _Mapping]]] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("magic", "format", "index", "time_ms", "cluster_id", "feature_level", "admitted", "epoch", "addresses", "attempt_floor", "limits", "jobs", "nodes", "forgotten", "variables", "answers", "answer_bytes", "events", "events_dropped_index", "groups", "table", "namespaces", "settings", "typical")
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
    MAGIC_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FLOOR_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_BYTES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_DROPPED_INDEX_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    TYPICAL_FIELD_NUMBER: _ClassVar[int]
    magic: int
    format: int
    index: int
    time_ms: int
    cluster_id: str
    feature_level: int
    admitted: _containers.ScalarMap[str, str]
    epoch: int
    addresses: _containers.ScalarMap[str, str]
    attempt_floor: int
    limits: _types_pb2.Limits
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    forgotten: _containers.RepeatedCompositeFieldContainer[Node]
    variables: _containers.RepeatedCompositeFieldContainer[_control_pb2.Variable]
    answers: _containers.RepeatedCompositeFieldContainer[Remembered]
    answer_bytes: int
    events: _containers.RepeatedCompositeFieldContainer[_control_pb2.Event]
    events_dropped_index: int
    groups: _containers.RepeatedCompositeFieldContainer[Group]
    table: Table
    namespaces: _containers.RepeatedCompositeFieldContainer[_types_pb2.Namespace]
    settings: _types_pb2.Settings
    typical: _containers.RepeatedCompositeFieldContainer[TypicalShape]
    def __init__(self, magic: _Optional[int] = ..., format: _Optional[int] = ..., index: _Optional[int] = ..., time_ms: _Optional[int] = ..., cluster_id: _Optional[str] = ..., feature_level: _Optional[int] = ..., admitted: _Optional[_Mapping[str, str]] = ..., epoch: _Optional[int] = ..., addresses: _Optional[_Mapping[str, str]] = ..., attempt_floor: _Optional[int] = ..., limits: _Optional[_Union[_types_pb2.Limits, _Mapping]] = ..., jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., forgotten: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., variables: _Optional[_Iterable[_Union[_control_pb2.Variable, _Mapping]]] = ..., answers: _Optional[_Iterable[_Union[Remembered, _Mapping]]] = ..., answer_bytes: _Optional[int] = ..., events: _Optional[_Iterable[_Union[_control_pb2.Event, _Mapping]]] = ..., events_dropped_index: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[Group, _Mapping]]] = ..., table: _Optional[_Union[Table, _Mapping]] = ..., namespaces: _Optional[_Iterable[_Union[_types_pb2.Namespace, _Mapping]]] = ..., settings: _Optional[_Union[_types_pb2.Settings, _Mapping]] = ..., typical: _Optional[_Iterable[_Union[TypicalShape, _Mapping]]] = ...) -> None: ...

class TypicalShape(_message.Message):
    __slots__ = ("cpu_millis", "devices", "gpu_millis", "gpu_memory_mib", "models", "count")
    CPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    GPU_MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    cpu_millis: int
    devices: int
    gpu_millis: int
    gpu_memory_mib: int
    models: _containers.RepeatedScalarFieldContainer[str]
    count: int
    def __init__(self, cpu_millis: _Optional[int] = ..., devices: _Optional[int] = ..., gpu_millis: _Optional[int] = ..., gpu_memory_mib: _Optional[int] = ..., models: _Optional[_Iterable[str]] = ..., count: _Optional[int] = ...) -> None: ...
