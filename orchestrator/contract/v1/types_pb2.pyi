from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_TYPE_UNSPECIFIED: _ClassVar[JobType]
    JOB_TYPE_SERVICE: _ClassVar[JobType]
    JOB_TYPE_BATCH: _ClassVar[JobType]
    JOB_TYPE_SYSTEM: _ClassVar[JobType]

class OnDisconnect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_DISCONNECT_UNSPECIFIED: _ClassVar[OnDisconnect]
    ON_DISCONNECT_REPLACE: _ClassVar[OnDisconnect]
    ON_DISCONNECT_STOP: _ClassVar[OnDisconnect]
    ON_DISCONNECT_KEEP: _ClassVar[OnDisconnect]

class RestartMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESTART_MODE_UNSPECIFIED: _ClassVar[RestartMode]
    RESTART_MODE_FAIL: _ClassVar[RestartMode]
    RESTART_MODE_DELAY: _ClassVar[RestartMode]

class Protocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROTOCOL_UNSPECIFIED: _ClassVar[Protocol]
    PROTOCOL_TCP: _ClassVar[Protocol]
    PROTOCOL_UDP: _ClassVar[Protocol]

class ConstraintOperator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSTRAINT_OPERATOR_UNSPECIFIED: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_EQUAL: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_NOT_EQUAL: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_IN: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_NOT_IN: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_EXISTS: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_NOT_EXISTS: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_GREATER: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_LESS: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_GREATER_EQUAL: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_LESS_EQUAL: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_VERSION: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_MATCHES: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_NOT_MATCHES: _ClassVar[ConstraintOperator]

class TaintEffect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TAINT_EFFECT_UNSPECIFIED: _ClassVar[TaintEffect]
    TAINT_EFFECT_NO_SCHEDULE: _ClassVar[TaintEffect]
    TAINT_EFFECT_PREFER_NO_SCHEDULE: _ClassVar[TaintEffect]
    TAINT_EFFECT_NO_EXECUTE: _ClassVar[TaintEffect]

class Link(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LINK_UNSPECIFIED: _ClassVar[Link]
    LINK_ANY: _ClassVar[Link]
    LINK_ISLAND: _ClassVar[Link]
    LINK_NUMA: _ClassVar[Link]

class GangDomain(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GANG_DOMAIN_UNSPECIFIED: _ClassVar[GangDomain]
    GANG_DOMAIN_ISLAND: _ClassVar[GangDomain]
    GANG_DOMAIN_NODE: _ClassVar[GangDomain]
    GANG_DOMAIN_RACK: _ClassVar[GangDomain]
    GANG_DOMAIN_ZONE: _ClassVar[GangDomain]
    GANG_DOMAIN_CLUSTER: _ClassVar[GangDomain]

class GangFailure(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GANG_FAILURE_UNSPECIFIED: _ClassVar[GangFailure]
    GANG_FAILURE_RESTART: _ClassVar[GangFailure]
    GANG_FAILURE_REPLACE: _ClassVar[GangFailure]

class PullPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PULL_POLICY_UNSPECIFIED: _ClassVar[PullPolicy]
    PULL_POLICY_MISSING: _ClassVar[PullPolicy]
    PULL_POLICY_ALWAYS: _ClassVar[PullPolicy]
    PULL_POLICY_NEVER: _ClassVar[PullPolicy]

class TaskRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_ROLE_UNSPECIFIED: _ClassVar[TaskRole]
    TASK_ROLE_MAIN: _ClassVar[TaskRole]
    TASK_ROLE_INIT: _ClassVar[TaskRole]
    TASK_ROLE_SIDECAR: _ClassVar[TaskRole]

class Desired(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DESIRED_UNSPECIFIED: _ClassVar[Desired]
    DESIRED_RUN: _ClassVar[Desired]
    DESIRED_STOP: _ClassVar[Desired]

class AllocState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALLOC_STATE_UNSPECIFIED: _ClassVar[AllocState]
    ALLOC_STATE_PENDING: _ClassVar[AllocState]
    ALLOC_STATE_STARTING: _ClassVar[AllocState]
    ALLOC_STATE_RUNNING: _ClassVar[AllocState]
    ALLOC_STATE_BACKOFF: _ClassVar[AllocState]
    ALLOC_STATE_STOPPING: _ClassVar[AllocState]
    ALLOC_STATE_COMPLETE: _ClassVar[AllocState]
    ALLOC_STATE_FAILED: _ClassVar[AllocState]
    ALLOC_STATE_STOPPED: _ClassVar[AllocState]
    ALLOC_STATE_LOST: _ClassVar[AllocState]

class NodeStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_STATUS_UNSPECIFIED: _ClassVar[NodeStatus]
    NODE_STATUS_READY: _ClassVar[NodeStatus]
    NODE_STATUS_LOST: _ClassVar[NodeStatus]

class CheckKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECK_KIND_UNSPECIFIED: _ClassVar[CheckKind]
    CHECK_KIND_HTTP: _ClassVar[CheckKind]
    CHECK_KIND_TCP: _ClassVar[CheckKind]
    CHECK_KIND_GRPC: _ClassVar[CheckKind]
    CHECK_KIND_EXEC: _ClassVar[CheckKind]

class RolloutStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_STATUS_UNSPECIFIED: _ClassVar[RolloutStatus]
    ROLLOUT_STATUS_RUNNING: _ClassVar[RolloutStatus]
    ROLLOUT_STATUS_PAUSED: _ClassVar[RolloutStatus]
    ROLLOUT_STATUS_SUCCEEDED: _ClassVar[RolloutStatus]
    ROLLOUT_STATUS_FAILED: _ClassVar[RolloutStatus]

class RolloutAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_ACTION_UNSPECIFIED: _ClassVar[RolloutAction]
    ROLLOUT_ACTION_PAUSE: _ClassVar[RolloutAction]
    ROLLOUT_ACTION_RESUME: _ClassVar[RolloutAction]
    ROLLOUT_ACTION_PROMOTE: _ClassVar[RolloutAction]

class AfterCondition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AFTER_CONDITION_UNSPECIFIED: _ClassVar[AfterCondition]
    AFTER_CONDITION_SUCCESS: _ClassVar[AfterCondition]
    AFTER_CONDITION_ANY: _ClassVar[AfterCondition]

class Overlap(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OVERLAP_UNSPECIFIED: _ClassVar[Overlap]
    OVERLAP_ALLOW: _ClassVar[Overlap]
    OVERLAP_FORBID: _ClassVar[Overlap]
    OVERLAP_REPLACE: _ClassVar[Overlap]

class Missed(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MISSED_UNSPECIFIED: _ClassVar[Missed]
    MISSED_SKIP: _ClassVar[Missed]
    MISSED_ONCE: _ClassVar[Missed]

class PayloadRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAYLOAD_RULE_UNSPECIFIED: _ClassVar[PayloadRule]
    PAYLOAD_RULE_OPTIONAL: _ClassVar[PayloadRule]
    PAYLOAD_RULE_REQUIRED: _ClassVar[PayloadRule]
    PAYLOAD_RULE_FORBIDDEN: _ClassVar[PayloadRule]
JOB_TYPE_UNSPECIFIED: JobType
JOB_TYPE_SERVICE: JobType
JOB_TYPE_BATCH: JobType
JOB_TYPE_SYSTEM: JobType
ON_DISCONNECT_UNSPECIFIED: OnDisconnect
ON_DISCONNECT_REPLACE: OnDisconnect
ON_DISCONNECT_STOP: OnDisconnect
ON_DISCONNECT_KEEP: OnDisconnect
RESTART_MODE_UNSPECIFIED: RestartMode
RESTART_MODE_FAIL: RestartMode
RESTART_MODE_DELAY: RestartMode
PROTOCOL_UNSPECIFIED: Protocol
PROTOCOL_TCP: Protocol
PROTOCOL_UDP: Protocol
CONSTRAINT_OPERATOR_UNSPECIFIED: ConstraintOperator
CONSTRAINT_OPERATOR_EQUAL: ConstraintOperator
CONSTRAINT_OPERATOR_NOT_EQUAL: ConstraintOperator
CONSTRAINT_OPERATOR_IN: ConstraintOperator
CONSTRAINT_OPERATOR_NOT_IN: ConstraintOperator
CONSTRAINT_OPERATOR_EXISTS: ConstraintOperator
CONSTRAINT_OPERATOR_NOT_EXISTS: ConstraintOperator
CONSTRAINT_OPERATOR_GREATER: ConstraintOperator
CONSTRAINT_OPERATOR_LESS: ConstraintOperator
CONSTRAINT_OPERATOR_GREATER_EQUAL: ConstraintOperator
CONSTRAINT_OPERATOR_LESS_EQUAL: ConstraintOperator
CONSTRAINT_OPERATOR_VERSION: ConstraintOperator
CONSTRAINT_OPERATOR_MATCHES: ConstraintOperator
CONSTRAINT_OPERATOR_NOT_MATCHES: ConstraintOperator
TAINT_EFFECT_UNSPECIFIED: TaintEffect
TAINT_EFFECT_NO_SCHEDULE: TaintEffect
TAINT_EFFECT_PREFER_NO_SCHEDULE: TaintEffect
TAINT_EFFECT_NO_EXECUTE: TaintEffect
LINK_UNSPECIFIED: Link
LINK_ANY: Link
LINK_ISLAND: Link
LINK_NUMA: Link
GANG_DOMAIN_UNSPECIFIED: GangDomain
GANG_DOMAIN_ISLAND: GangDomain
GANG_DOMAIN_NODE: GangDomain
GANG_DOMAIN_RACK: GangDomain
GANG_DOMAIN_ZONE: GangDomain
GANG_DOMAIN_CLUSTER: GangDomain
GANG_FAILURE_UNSPECIFIED: GangFailure
GANG_FAILURE_RESTART: GangFailure
GANG_FAILURE_REPLACE: GangFailure
PULL_POLICY_UNSPECIFIED: PullPolicy
PULL_POLICY_MISSING: PullPolicy
PULL_POLICY_ALWAYS: PullPolicy
PULL_POLICY_NEVER: PullPolicy
TASK_ROLE_UNSPECIFIED: TaskRole
TASK_ROLE_MAIN: TaskRole
TASK_ROLE_INIT: TaskRole
TASK_ROLE_SIDECAR: TaskRole
DESIRED_UNSPECIFIED: Desired
DESIRED_RUN: Desired
DESIRED_STOP: Desired
ALLOC_STATE_UNSPECIFIED: AllocState
ALLOC_STATE_PENDING: AllocState
ALLOC_STATE_STARTING: AllocState
ALLOC_STATE_RUNNING: AllocState
ALLOC_STATE_BACKOFF: AllocState
ALLOC_STATE_STOPPING: AllocState
ALLOC_STATE_COMPLETE: AllocState
ALLOC_STATE_FAILED: AllocState
ALLOC_STATE_STOPPED: AllocState
ALLOC_STATE_LOST: AllocState
NODE_STATUS_UNSPECIFIED: NodeStatus
NODE_STATUS_READY: NodeStatus
NODE_STATUS_LOST: NodeStatus
CHECK_KIND_UNSPECIFIED: CheckKind
CHECK_KIND_HTTP: CheckKind
CHECK_KIND_TCP: CheckKind
CHECK_KIND_GRPC: CheckKind
CHECK_KIND_EXEC: CheckKind
ROLLOUT_STATUS_UNSPECIFIED: RolloutStatus
ROLLOUT_STATUS_RUNNING: RolloutStatus
ROLLOUT_STATUS_PAUSED: RolloutStatus
ROLLOUT_STATUS_SUCCEEDED: RolloutStatus
ROLLOUT_STATUS_FAILED: RolloutStatus
ROLLOUT_ACTION_UNSPECIFIED: RolloutAction
ROLLOUT_ACTION_PAUSE: RolloutAction
ROLLOUT_ACTION_RESUME: RolloutAction
ROLLOUT_ACTION_PROMOTE: RolloutAction
AFTER_CONDITION_UNSPECIFIED: AfterCondition
AFTER_CONDITION_SUCCESS: AfterCondition
AFTER_CONDITION_ANY: AfterCondition
OVERLAP_UNSPECIFIED: Overlap
OVERLAP_ALLOW: Overlap
OVERLAP_FORBID: Overlap
OVERLAP_REPLACE: Overlap
MISSED_UNSPECIFIED: Missed
MISSED_SKIP: Missed
MISSED_ONCE: Missed
PAYLOAD_RULE_UNSPECIFIED: PayloadRule
PAYLOAD_RULE_OPTIONAL: PayloadRule
PAYLOAD_RULE_REQUIRED: PayloadRule
PAYLOAD_RULE_FORBIDDEN: PayloadRule

class DeviceRequest(_message.Message):
    __slots__ = ("count", "gpu_millis", "memory_mib", "models", "compute_capability", "driver_version", "mig", "link")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    DRIVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    MIG_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    count: int
    gpu_millis: int
    memory_mib: int
    models: _containers.RepeatedScalarFieldContainer[str]
    compute_capability: str
    driver_version: str
    mig: str
    link: Link
    def __init__(self, count: _Optional[int] = ..., gpu_millis: _Optional[int] = ..., memory_mib: _Optional[int] = ..., models: _Optional[_Iterable[str]] = ..., compute_capability: _Optional[str] = ..., driver_version: _Optional[str] = ..., mig: _Optional[str] = ..., link: _Optional[_Union[Link, str]] = ...) -> None: ...

class Resources(_message.Message):
    __slots__ = ("cpu_millis", "memory_mib", "disk_mib", "gpus", "custom")
    class CustomEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    DISK_MIB_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    cpu_millis: int
    memory_mib: int
    disk_mib: int
    gpus: DeviceRequest
    custom: _containers.ScalarMap[str, int]
    def __init__(self, cpu_millis: _Optional[int] = ..., memory_mib: _Optional[int] = ..., disk_mib: _Optional[int] = ..., gpus: _Optional[_Union[DeviceRequest, _Mapping]] = ..., custom: _Optional[_Mapping[str, int]] = ...) -> None: ...

class PortSpec(_message.Message):
    __slots__ = ("label", "to", "static", "protocol")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    STATIC_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    label: str
    to: int
    static: int
    protocol: Protocol
    def __init__(self, label: _Optional[str] = ..., to: _Optional[int] = ..., static: _Optional[int] = ..., protocol: _Optional[_Union[Protocol, str]] = ...) -> None: ...

class RestartPolicy(_message.Message):
    __slots__ = ("attempts", "delay_ms", "mode")
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    attempts: int
    delay_ms: int
    mode: RestartMode
    def __init__(self, attempts: _Optional[int] = ..., delay_ms: _Optional[int] = ..., mode: _Optional[_Union[RestartMode, str]] = ...) -> None: ...

class StopPolicy(_message.Message):
    __slots__ = ("signal", "timeout_ms")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    signal: str
    timeout_ms: int
    def __init__(self, signal: _Optional[str] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class MountSpec(_message.Message):
    __slots__ = ("source", "target", "read_only", "sub_path")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    SUB_PATH_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    read_only: bool
    sub_path: str
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., read_only: _Optional[bool] = ..., sub_path: _Optional[str] = ...) -> None: ...

class RegistryAuth(_message.Message):
    __slots__ = ("username", "username_variable", "password_variable", "server")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    USERNAME_VARIABLE_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_VARIABLE_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    username: str
    username_variable: str
    password_variable: str
    server: str
    def __init__(self, username: _Optional[str] = ..., username_variable: _Optional[str] = ..., password_variable: _Optional[str] = ..., server: _Optional[str] = ...) -> None: ...

class Ulimit(_message.Message):
    __slots__ = ("name", "soft", "hard")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOFT_FIELD_NUMBER: _ClassVar[int]
    HARD_FIELD_NUMBER: _ClassVar[int]
    name: str
    soft: int
    hard: int
    def __init__(self, name: _Optional[str] = ..., soft: _Optional[int] = ..., hard: _Optional[int] = ...) -> None: ...

class TmpfsSpec(_message.Message):
    __slots__ = ("target", "size_mib", "mode", "uid", "gid")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SIZE_MIB_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    target: str
    size_mib: int
    mode: int
    uid: int
    gid: int
    def __init__(self, target: _Optional[str] = ..., size_mib: _Optional[int] = ..., mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ...) -> None: ...

class LogSpec(_message.Message):
    __slots__ = ("driver", "options")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    driver: str
    options: _containers.ScalarMap[str, str]
    def __init__(self, driver: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ...) -> None: ...

class FileSpec(_message.Message):
    __slots__ = ("target", "content", "variable", "mode")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    target: str
    content: str
    variable: str
    mode: int
    def __init__(self, target: _Optional[str] = ..., content: _Optional[str] = ..., variable: _Optional[str] = ..., mode: _Optional[int] = ...) -> None: ...

class ContainerSpec(_message.Message):
    __slots__ = ("pull_policy", "auth", "env_files", "hostname", "labels", "no_init", "pids_limit", "ulimits", "shm_size_mib", "read_only", "tmpfs", "logging", "files", "cpu_max_millis", "memory_max_mib", "cap_add", "cap_drop")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PULL_POLICY_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    ENV_FILES_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    NO_INIT_FIELD_NUMBER: _ClassVar[int]
    PIDS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ULIMITS_FIELD_NUMBER: _ClassVar[int]
    SHM_SIZE_MIB_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    TMPFS_FIELD_NUMBER: _ClassVar[int]
    LOGGING_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    CPU_MAX_MILLIS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MAX_MIB_FIELD_NUMBER: _ClassVar[int]
    CAP_ADD_FIELD_NUMBER: _ClassVar[int]
    CAP_DROP_FIELD_NUMBER: _ClassVar[int]
    pull_policy: PullPolicy
    auth: RegistryAuth
    env_files: _containers.RepeatedScalarFieldContainer[str]
    hostname: str
    labels: _containers.ScalarMap[str, str]
    no_init: bool
    pids_limit: int
    ulimits: _containers.RepeatedCompositeFieldContainer[Ulimit]
    shm_size_mib: int
    read_only: bool
    tmpfs: _containers.RepeatedCompositeFieldContainer[TmpfsSpec]
    logging: LogSpec
    files: _containers.RepeatedCompositeFieldContainer[FileSpec]
    cpu_max_millis: int
    memory_max_mib: int
    cap_add: _containers.RepeatedScalarFieldContainer[str]
    cap_drop: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, pull_policy: _Optional[_Union[PullPolicy, str]] = ..., auth: _Optional[_Union[RegistryAuth, _Mapping]] = ..., env_files: _Optional[_Iterable[str]] = ..., hostname: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., no_init: _Optional[bool] = ..., pids_limit: _Optional[int] = ..., ulimits: _Optional[_Iterable[_Union[Ulimit, _Mapping]]] = ..., shm_size_mib: _Optional[int] = ..., read_only: _Optional[bool] = ..., tmpfs: _Optional[_Iterable[_Union[TmpfsSpec, _Mapping]]] = ..., logging: _Optional[_Union[LogSpec, _Mapping]] = ..., files: _Optional[_Iterable[_Union[FileSpec, _Mapping]]] = ..., cpu_max_millis: _Optional[int] = ..., memory_max_mib: _Optional[int] = ..., cap_add: _Optional[_Iterable[str]] = ..., cap_drop: _Optional[_Iterable[str]] = ...) -> None: ...

class Constraint(_message.Message):
    __slots__ = ("attribute", "operator", "values")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    operator: ConstraintOperator
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, attribute: _Optional[str] = ..., operator: _Optional[_Union[ConstraintOperator, str]] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class Taint(_message.Message):
    __slots__ = ("key", "value", "effect")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    effect: TaintEffect
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ..., effect: _Optional[_Union[TaintEffect, str]] = ...) -> None: ...

class Toleration(_message.Message):
    __slots__ = ("key", "value", "effect", "delay_ms")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    effect: TaintEffect
    delay_ms: int
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ..., effect: _Optional[_Union[TaintEffect, str]] = ..., delay_ms: _Optional[int] = ...) -> None: ...

class NodeTaint(_message.Message):
    __slots__ = ("taint", "since_ms", "declared")
    TAINT_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    DECLARED_FIELD_NUMBER: _ClassVar[int]
    taint: Taint
    since_ms: int
    declared: bool
    def __init__(self, taint: _Optional[_Union[Taint, _Mapping]] = ..., since_ms: _Optional[int] = ..., declared: _Optional[bool] = ...) -> None: ...

class Affinity(_message.Message):
    __slots__ = ("constraint", "job", "group", "topology", "weight", "required")
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    constraint: Constraint
    job: str
    group: str
    topology: str
    weight: int
    required: bool
    def __init__(self, constraint: _Optional[_Union[Constraint, _Mapping]] = ..., job: _Optional[str] = ..., group: _Optional[str] = ..., topology: _Optional[str] = ..., weight: _Optional[int] = ..., required: _Optional[bool] = ...) -> None: ...

class Spread(_message.Message):
    __slots__ = ("attribute", "max_skew", "required", "weight")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    MAX_SKEW_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    max_skew: int
    required: bool
    weight: int
    def __init__(self, attribute: _Optional[str] = ..., max_skew: _Optional[int] = ..., required: _Optional[bool] = ..., weight: _Optional[int] = ...) -> None: ...

class CheckSpec(_message.Message):
    __slots__ = ("kind", "port", "path", "headers", "tls", "service", "command", "interval_ms", "timeout_ms", "successes", "failures", "grace_ms")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    SUCCESSES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    kind: CheckKind
    port: str
    path: str
    headers: _containers.ScalarMap[str, str]
    tls: bool
    service: str
    command: _containers.RepeatedScalarFieldContainer[str]
    interval_ms: int
    timeout_ms: int
    successes: int
    failures: int
    grace_ms: int
    def __init__(self, kind: _Optional[_Union[CheckKind, str]] = ..., port: _Optional[str] = ..., path: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., tls: _Optional[bool] = ..., service: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., interval_ms: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., successes: _Optional[int] = ..., failures: _Optional[int] = ..., grace_ms: _Optional[int] = ...) -> None: ...

class HealthSpec(_message.Message):
    __slots__ = ("startup", "liveness", "readiness")
    STARTUP_FIELD_NUMBER: _ClassVar[int]
    LIVENESS_FIELD_NUMBER: _ClassVar[int]
    READINESS_FIELD_NUMBER: _ClassVar[int]
    startup: CheckSpec
    liveness: CheckSpec
    readiness: CheckSpec
    def __init__(self, startup: _Optional[_Union[CheckSpec, _Mapping]] = ..., liveness: _Optional[_Union[CheckSpec, _Mapping]] = ..., readiness: _Optional[_Union[CheckSpec, _Mapping]] = ...) -> None: ...

class UpdateSpec(_message.Message):
    __slots__ = ("max_surge", "surge_percent", "max_unavailable", "unavailable_percent", "canaries", "min_ready_ms", "progress_deadline_ms", "auto_revert")
    MAX_SURGE_FIELD_NUMBER: _ClassVar[int]
    SURGE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MAX_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    CANARIES_FIELD_NUMBER: _ClassVar[int]
    MIN_READY_MS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    AUTO_REVERT_FIELD_NUMBER: _ClassVar[int]
    max_surge: int
    surge_percent: bool
    max_unavailable: int
    unavailable_percent: bool
    canaries: int
    min_ready_ms: int
    progress_deadline_ms: int
    auto_revert: bool
    def __init__(self, max_surge: _Optional[int] = ..., surge_percent: _Optional[bool] = ..., max_unavailable: _Optional[int] = ..., unavailable_percent: _Optional[bool] = ..., canaries: _Optional[int] = ..., min_ready_ms: _Optional[int] = ..., progress_deadline_ms: _Optional[int] = ..., auto_revert: _Optional[bool] = ...) -> None: ...

class Rollout(_message.Message):
    __slots__ = ("version", "began_version", "status", "promoted", "reverts", "began_ms", "progress_ms", "reason", "base_version")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BEGAN_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROMOTED_FIELD_NUMBER: _ClassVar[int]
    REVERTS_FIELD_NUMBER: _ClassVar[int]
    BEGAN_MS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    began_version: int
    status: RolloutStatus
    promoted: bool
    reverts: int
    began_ms: int
    progress_ms: int
    reason: str
    base_version: int
    def __init__(self, version: _Optional[int] = ..., began_version: _Optional[int] = ..., status: _Optional[_Union[RolloutStatus, str]] = ..., promoted: _Optional[bool] = ..., reverts: _Optional[int] = ..., began_ms: _Optional[int] = ..., progress_ms: _Optional[int] = ..., reason: _Optional[str] = ..., base_version: _Optional[int] = ...) -> None: ...

class Revision(_message.Message):
    __slots__ = ("version", "spec", "time_ms", "stable")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    STABLE_FIELD_NUMBER: _ClassVar[int]
    version: int
    spec: JobSpec
    time_ms: int
    stable: bool
    def __init__(self, version: _Optional[int] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., time_ms: _Optional[int] = ..., stable: _Optional[bool] = ...) -> None: ...

class TaskSpec(_message.Message):
    __slots__ = ("name", "driver", "image", "command", "args", "env", "resources", "stop", "variables", "work_dir", "user", "privileged", "mounts", "container", "role", "health", "timeout_ms", "workload")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class VariablesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    WORK_DIR_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    PRIVILEGED_FIELD_NUMBER: _ClassVar[int]
    MOUNTS_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    name: str
    driver: str
    image: str
    command: _containers.RepeatedScalarFieldContainer[str]
    args: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.ScalarMap[str, str]
    resources: Resources
    stop: StopPolicy
    variables: _containers.ScalarMap[str, str]
    work_dir: str
    user: str
    privileged: bool
    mounts: _containers.RepeatedCompositeFieldContainer[MountSpec]
    container: ContainerSpec
    role: TaskRole
    health: HealthSpec
    timeout_ms: int
    workload: WorkloadSpec
    def __init__(self, name: _Optional[str] = ..., driver: _Optional[str] = ..., image: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., args: _Optional[_Iterable[str]] = ..., env: _Optional[_Mapping[str, str]] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ..., stop: _Optional[_Union[StopPolicy, _Mapping]] = ..., variables: _Optional[_Mapping[str, str]] = ..., work_dir: _Optional[str] = ..., user: _Optional[str] = ..., privileged: _Optional[bool] = ..., mounts: _Optional[_Iterable[_Union[MountSpec, _Mapping]]] = ..., container: _Optional[_Union[ContainerSpec, _Mapping]] = ..., role: _Optional[_Union[TaskRole, str]] = ..., health: _Optional[_Union[HealthSpec, _Mapping]] = ..., timeout_ms: _Optional[int] = ..., workload: _Optional[_Union[WorkloadSpec, _Mapping]] = ...) -> None: ...

class WorkloadSpec(_message.Message):
    __slots__ = ("ready", "heartbeat_ms")
    READY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_MS_FIELD_NUMBER: _ClassVar[int]
    ready: bool
    heartbeat_ms: int
    def __init__(self, ready: _Optional[bool] = ..., heartbeat_ms: _Optional[int] = ...) -> None: ...

class ServiceSpec(_message.Message):
    __slots__ = ("name", "port")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    name: str
    port: str
    def __init__(self, name: _Optional[str] = ..., port: _Optional[str] = ...) -> None: ...

class GangSpec(_message.Message):
    __slots__ = ("domain", "on_failure")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    domain: GangDomain
    on_failure: GangFailure
    def __init__(self, domain: _Optional[_Union[GangDomain, str]] = ..., on_failure: _Optional[_Union[GangFailure, str]] = ...) -> None: ...

class GroupSpec(_message.Message):
    __slots__ = ("name", "count", "tasks", "ports", "restart", "constraints", "gang", "affinity", "spread", "tolerations", "datasets", "locality", "network_mode", "update", "services", "needs", "after")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    GANG_FIELD_NUMBER: _ClassVar[int]
    AFFINITY_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    TOLERATIONS_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    LOCALITY_FIELD_NUMBER: _ClassVar[int]
    NETWORK_MODE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    NEEDS_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    count: int
    tasks: _containers.RepeatedCompositeFieldContainer[TaskSpec]
    ports: _containers.RepeatedCompositeFieldContainer[PortSpec]
    restart: RestartPolicy
    constraints: _containers.RepeatedCompositeFieldContainer[Constraint]
    gang: GangSpec
    affinity: _containers.RepeatedCompositeFieldContainer[Affinity]
    spread: _containers.RepeatedCompositeFieldContainer[Spread]
    tolerations: _containers.RepeatedCompositeFieldContainer[Toleration]
    datasets: _containers.RepeatedScalarFieldContainer[str]
    locality: int
    network_mode: str
    update: UpdateSpec
    services: _containers.RepeatedCompositeFieldContainer[ServiceSpec]
    needs: _containers.RepeatedScalarFieldContainer[str]
    after: _containers.RepeatedCompositeFieldContainer[After]
    def __init__(self, name: _Optional[str] = ..., count: _Optional[int] = ..., tasks: _Optional[_Iterable[_Union[TaskSpec, _Mapping]]] = ..., ports: _Optional[_Iterable[_Union[PortSpec, _Mapping]]] = ..., restart: _Optional[_Union[RestartPolicy, _Mapping]] = ..., constraints: _Optional[_Iterable[_Union[Constraint, _Mapping]]] = ..., gang: _Optional[_Union[GangSpec, _Mapping]] = ..., affinity: _Optional[_Iterable[_Union[Affinity, _Mapping]]] = ..., spread: _Optional[_Iterable[_Union[Spread, _Mapping]]] = ..., tolerations: _Optional[_Iterable[_Union[Toleration, _Mapping]]] = ..., datasets: _Optional[_Iterable[str]] = ..., locality: _Optional[int] = ..., network_mode: _Optional[str] = ..., update: _Optional[_Union[UpdateSpec, _Mapping]] = ..., services: _Optional[_Iterable[_Union[ServiceSpec, _Mapping]]] = ..., needs: _Optional[_Iterable[str]] = ..., after: _Optional[_Iterable[_Union[After, _Mapping]]] = ...) -> None: ...

class After(_message.Message):
    __slots__ = ("group", "condition")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    group: str
    condition: AfterCondition
    def __init__(self, group: _Optional[str] = ..., condition: _Optional[_Union[AfterCondition, str]] = ...) -> None: ...

class PeriodicSpec(_message.Message):
    __slots__ = ("cron", "time_zone", "overlap", "missed", "paused")
    CRON_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    cron: _containers.RepeatedScalarFieldContainer[str]
    time_zone: str
    overlap: Overlap
    missed: Missed
    paused: bool
    def __init__(self, cron: _Optional[_Iterable[str]] = ..., time_zone: _Optional[str] = ..., overlap: _Optional[_Union[Overlap, str]] = ..., missed: _Optional[_Union[Missed, str]] = ..., paused: _Optional[bool] = ...) -> None: ...

class ParameterizedSpec(_message.Message):
    __slots__ = ("payload", "meta_required", "meta_optional")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    META_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    META_OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    payload: PayloadRule
    meta_required: _containers.RepeatedScalarFieldContainer[str]
    meta_optional: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, payload: _Optional[_Union[PayloadRule, str]] = ..., meta_required: _Optional[_Iterable[str]] = ..., meta_optional: _Optional[_Iterable[str]] = ...) -> None: ...

class Origin(_message.Message):
    __slots__ = ("job", "uid", "version", "due_ms", "meta", "payload", "replaces")
    class MetaEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    JOB_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DUE_MS_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    job: str
    uid: str
    version: int
    due_ms: int
    meta: _containers.ScalarMap[str, str]
    payload: bytes
    replaces: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job: _Optional[str] = ..., uid: _Optional[str] = ..., version: _Optional[int] = ..., due_ms: _Optional[int] = ..., meta: _Optional[_Mapping[str, str]] = ..., payload: _Optional[bytes] = ..., replaces: _Optional[_Iterable[str]] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("namespace", "name", "type", "priority", "groups", "placement", "on_disconnect", "constraints", "metadata", "disruption", "unpreemptible", "affinity", "spread", "tolerations", "periodic", "parameterized", "origin")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    DISRUPTION_FIELD_NUMBER: _ClassVar[int]
    UNPREEMPTIBLE_FIELD_NUMBER: _ClassVar[int]
    AFFINITY_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    TOLERATIONS_FIELD_NUMBER: _ClassVar[int]
    PERIODIC_FIELD_NUMBER: _ClassVar[int]
    PARAMETERIZED_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    type: JobType
    priority: int
    groups: _containers.RepeatedCompositeFieldContainer[GroupSpec]
    placement: str
    on_disconnect: OnDisconnect
    constraints: _containers.RepeatedCompositeFieldContainer[Constraint]
    metadata: _containers.ScalarMap[str, str]
    disruption: Disruption
    unpreemptible: bool
    affinity: _containers.RepeatedCompositeFieldContainer[Affinity]
    spread: _containers.RepeatedCompositeFieldContainer[Spread]
    tolerations: _containers.RepeatedCompositeFieldContainer[Toleration]
    periodic: PeriodicSpec
    parameterized: ParameterizedSpec
    origin: Origin
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[_Union[JobType, str]] = ..., priority: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[GroupSpec, _Mapping]]] = ..., placement: _Optional[str] = ..., on_disconnect: _Optional[_Union[OnDisconnect, str]] = ..., constraints: _Optional[_Iterable[_Union[Constraint, _Mapping]]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., disruption: _Optional[_Union[Disruption, _Mapping]] = ..., unpreemptible: _Optional[bool] = ..., affinity: _Optional[_Iterable[_Union[Affinity, _Mapping]]] = ..., spread: _Optional[_Iterable[_Union[Spread, _Mapping]]] = ..., tolerations: _Optional[_Iterable[_Union[Toleration, _Mapping]]] = ..., periodic: _Optional[_Union[PeriodicSpec, _Mapping]] = ..., parameterized: _Optional[_Union[ParameterizedSpec, _Mapping]] = ..., origin: _Optional[_Union[Origin, _Mapping]] = ...) -> None: ...

class Disruption(_message.Message):
    __slots__ = ("max_unavailable", "percent")
    MAX_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    max_unavailable: int
    percent: bool
    def __init__(self, max_unavailable: _Optional[int] = ..., percent: _Optional[bool] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("id", "model", "memory_mib", "island", "numa", "pcie", "compute_capability", "driver_version", "mig", "parent")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    ISLAND_FIELD_NUMBER: _ClassVar[int]
    NUMA_FIELD_NUMBER: _ClassVar[int]
    PCIE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    DRIVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    MIG_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    memory_mib: int
    island: int
    numa: int
    pcie: int
    compute_capability: str
    driver_version: str
    mig: str
    parent: str
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., memory_mib: _Optional[int] = ..., island: _Optional[int] = ..., numa: _Optional[int] = ..., pcie: _Optional[int] = ..., compute_capability: _Optional[str] = ..., driver_version: _Optional[str] = ..., mig: _Optional[str] = ..., parent: _Optional[str] = ...) -> None: ...

class NodeSpec(_message.Message):
    __slots__ = ("id", "name", "address", "engine_id", "drivers", "labels", "capacity", "devices", "port_min", "port_max", "version", "boot_id", "arch", "os", "kernel", "datacenter", "region", "zone", "rack", "taints", "images", "datasets", "sick_devices", "resizes_processes")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SickDevicesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    DRIVERS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    PORT_MIN_FIELD_NUMBER: _ClassVar[int]
    PORT_MAX_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    ARCH_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    DATACENTER_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    RACK_FIELD_NUMBER: _ClassVar[int]
    TAINTS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    SICK_DEVICES_FIELD_NUMBER: _ClassVar[int]
    RESIZES_PROCESSES_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    address: str
    engine_id: str
    drivers: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    capacity: Resources
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    port_min: int
    port_max: int
    version: str
    boot_id: str
    arch: str
    os: str
    kernel: str
    datacenter: str
    region: str
    zone: str
    rack: str
    taints: _containers.RepeatedCompositeFieldContainer[Taint]
    images: _containers.RepeatedScalarFieldContainer[str]
    datasets: _containers.RepeatedScalarFieldContainer[str]
    sick_devices: _containers.ScalarMap[str, str]
    resizes_processes: bool
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., address: _Optional[str] = ..., engine_id: _Optional[str] = ..., drivers: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., capacity: _Optional[_Union[Resources, _Mapping]] = ..., devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., port_min: _Optional[int] = ..., port_max: _Optional[int] = ..., version: _Optional[str] = ..., boot_id: _Optional[str] = ..., arch: _Optional[str] = ..., os: _Optional[str] = ..., kernel: _Optional[str] = ..., datacenter: _Optional[str] = ..., region: _Optional[str] = ..., zone: _Optional[str] = ..., rack: _Optional[str] = ..., taints: _Optional[_Iterable[_Union[Taint, _Mapping]]] = ..., images: _Optional[_Iterable[str]] = ..., datasets: _Optional[_Iterable[str]] = ..., sick_devices: _Optional[_Mapping[str, str]] = ..., resizes_processes: _Optional[bool] = ...) -> None: ...

class AllocationId(_message.Message):
    __slots__ = ("namespace", "job", "group", "ordinal")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    job: str
    group: str
    ordinal: int
    def __init__(self, namespace: _Optional[str] = ..., job: _Optional[str] = ..., group: _Optional[str] = ..., ordinal: _Optional[int] = ...) -> None: ...

class Allocation(_message.Message):
    __slots__ = ("id", "job_uid", "attempt", "restarts", "job_version", "node_id", "node_name", "node_address", "desired", "state", "reason", "exit_code", "ports", "device_ids", "gpu_millis", "create_index", "modify_index", "create_time_ms", "modify_time_ms", "resources", "ready")
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_UID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    JOB_VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    CREATE_INDEX_FIELD_NUMBER: _ClassVar[int]
    MODIFY_INDEX_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    MODIFY_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    id: AllocationId
    job_uid: str
    attempt: int
    restarts: int
    job_version: int
    node_id: str
    node_name: str
    node_address: str
    desired: Desired
    state: AllocState
    reason: str
    exit_code: int
    ports: _containers.RepeatedCompositeFieldContainer[PortBinding]
    device_ids: _containers.RepeatedScalarFieldContainer[str]
    gpu_millis: int
    create_index: int
    modify_index: int
    create_time_ms: int
    modify_time_ms: int
    resources: Resources
    ready: bool
    def __init__(self, id: _Optional[_Union[AllocationId, _Mapping]] = ..., job_uid: _Optional[str] = ..., attempt: _Optional[int] = ..., restarts: _Optional[int] = ..., job_version: _Optional[int] = ..., node_id: _Optional[str] = ..., node_name: _Optional[str] = ..., node_address: _Optional[str] = ..., desired: _Optional[_Union[Desired, str]] = ..., state: _Optional[_Union[AllocState, str]] = ..., reason: _Optional[str] = ..., exit_code: _Optional[int] = ..., ports: _Optional[_Iterable[_Union[PortBinding, _Mapping]]] = ..., device_ids: _Optional[_Iterable[str]] = ..., gpu_millis: _Optional[int] = ..., create_index: _Optional[int] = ..., modify_index: _Optional[int] = ..., create_time_ms: _Optional[int] = ..., modify_time_ms: _Optional[int] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ..., ready: _Optional[bool] = ...) -> None: ...

class PortBinding(_message.Message):
    __slots__ = ("label", "host_port", "to", "protocol")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    HOST_PORT_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    label: str
    host_port: int
    to: int
    protocol: Protocol
    def __init__(self, label: _Optional[str] = ..., host_port: _Optional[int] = ..., to: _Optional[int] = ..., protocol: _Optional[_Union[Protocol, str]] = ...) -> None: ...

class ServiceInstance(_message.Message):
    __slots__ = ("allocation", "attempt", "address", "port", "label", "protocol", "node_id", "node_name")
    ALLOCATION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    allocation: AllocationId
    attempt: int
    address: str
    port: int
    label: str
    protocol: Protocol
    node_id: str
    node_name: str
    def __init__(self, allocation: _Optional[_Union[AllocationId, _Mapping]] = ..., attempt: _Optional[int] = ..., address: _Optional[str] = ..., port: _Optional[int] = ..., label: _Optional[str] = ..., protocol: _Optional[_Union[Protocol, str]] = ..., node_id: _Optional[str] = ..., node_name: _Optional[str] = ...) -> None: ...

class Service(_message.Message):
    __slots__ = ("namespace", "name", "instances", "declared")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    DECLARED_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    instances: _containers.RepeatedCompositeFieldContainer[ServiceInstance]
    declared: bool
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., instances: _Optional[_Iterable[_Union[ServiceInstance, _Mapping]]] = ..., declared: _Optional[bool] = ...) -> None: ...

class TaskReport(_message.Message):
    __slots__ = ("task", "ready", "heartbeat_age_ms", "metrics", "ports", "stopping", "draining", "done")
    TASK_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    STOPPING_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    task: str
    ready: bool
    heartbeat_age_ms: int
    metrics: _containers.RepeatedCompositeFieldContainer[TaskMetric]
    ports: _containers.RepeatedCompositeFieldContainer[LeasedPort]
    stopping: bool
    draining: bool
    done: bool
    def __init__(self, task: _Optional[str] = ..., ready: _Optional[bool] = ..., heartbeat_age_ms: _Optional[int] = ..., metrics: _Optional[_Iterable[_Union[TaskMetric, _Mapping]]] = ..., ports: _Optional[_Iterable[_Union[LeasedPort, _Mapping]]] = ..., stopping: _Optional[bool] = ..., draining: _Optional[bool] = ..., done: _Optional[bool] = ...) -> None: ...

class TaskMetric(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class LeasedPort(_message.Message):
    __slots__ = ("port", "protocol")
    PORT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    port: int
    protocol: Protocol
    def __init__(self, port: _Optional[int] = ..., protocol: _Optional[_Union[Protocol, str]] = ...) -> None: ...

class Quota(_message.Message):
    __slots__ = ("cpu_millis", "memory_mib", "disk_mib", "gpu_millis", "jobs", "allocations")
    CPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    DISK_MIB_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    ALLOCATIONS_FIELD_NUMBER: _ClassVar[int]
    cpu_millis: int
    memory_mib: int
    disk_mib: int
    gpu_millis: int
    jobs: int
    allocations: int
    def __init__(self, cpu_millis: _Optional[int] = ..., memory_mib: _Optional[int] = ..., disk_mib: _Optional[int] = ..., gpu_millis: _Optional[int] = ..., jobs: _Optional[int] = ..., allocations: _Optional[int] = ...) -> None: ...

class Namespace(_message.Message):
    __slots__ = ("name", "quota", "create_index", "modify_index")
    NAME_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    CREATE_INDEX_FIELD_NUMBER: _ClassVar[int]
    MODIFY_INDEX_FIELD_NUMBER: _ClassVar[int]
    name: str
    quota: Quota
    create_index: int
    modify_index: int
    def __init__(self, name: _Optional[str] = ..., quota: _Optional[_Union[Quota, _Mapping]] = ..., create_index: _Optional[int] = ..., modify_index: _Optional[int] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("cpu_millis", "memory_mib", "disk_mib", "gpu_millis", "jobs", "allocations")
    CPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    DISK_MIB_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    ALLOCATIONS_FIELD_NUMBER: _ClassVar[int]
    cpu_millis: int
    memory_mib: int
    disk_mib: int
    gpu_millis: int
    jobs: int
    allocations: int
    def __init__(self, cpu_millis: _Optional[int] = ..., memory_mib: _Optional[int] = ..., disk_mib: _Optional[int] = ..., gpu_millis: _Optional[int] = ..., jobs: _Optional[int] = ..., allocations: _Optional[int] = ...) -> None: ...

class Settings(_message.Message):
    __slots__ = ("preemption", "strict_namespaces")
    PREEMPTION_FIELD_NUMBER: _ClassVar[int]
    STRICT_NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    preemption: bool
    strict_namespaces: bool
    def __init__(self, preemption: _Optional[bool] = ..., strict_namespaces: _Optional[bool] = ...) -> None: ...

class SettingsChange(_message.Message):
    __slots__ = ("preemption", "strict_namespaces")
    PREEMPTION_FIELD_NUMBER: _ClassVar[int]
    STRICT_NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    preemption: bool
    strict_namespaces: bool
    def __init__(self, preemption: _Optional[bool] = ..., strict_namespaces: _Optional[bool] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("allocations_per_ordinal", "allocation_age_ms", "stopped_job_age_ms", "events", "answers", "answer_age_ms", "answer_bytes", "variable_bytes", "default_placement", "children_per_job", "child_age_ms")
    ALLOCATIONS_PER_ORDINAL_FIELD_NUMBER: _ClassVar[int]
    ALLOCATION_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_JOB_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_BYTES_FIELD_NUMBER: _ClassVar[int]
    VARIABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_PER_JOB_FIELD_NUMBER: _ClassVar[int]
    CHILD_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    allocations_per_ordinal: int
    allocation_age_ms: int
    stopped_job_age_ms: int
    events: int
    answers: int
    answer_age_ms: int
    answer_bytes: int
    variable_bytes: int
    default_placement: str
    children_per_job: int
    child_age_ms: int
    def __init__(self, allocations_per_ordinal: _Optional[int] = ..., allocation_age_ms: _Optional[int] = ..., stopped_job_age_ms: _Optional[int] = ..., events: _Optional[int] = ..., answers: _Optional[int] = ..., answer_age_ms: _Optional[int] = ..., answer_bytes: _Optional[int] = ..., variable_bytes: _Optional[int] = ..., default_placement: _Optional[str] = ..., children_per_job: _Optional[int] = ..., child_age_ms: _Optional[int] = ...) -> None: ...

class LimitsChange(_message.Message):
    __slots__ = ("allocations_per_ordinal", "allocation_age_ms", "stopped_job_age_ms", "events", "answers", "answer_age_ms", "answer_bytes", "variable_bytes", "default_placement", "children_per_job", "child_age_ms")
    ALLOCATIONS_PER_ORDINAL_FIELD_NUMBER: _ClassVar[int]
    ALLOCATION_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_JOB_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_BYTES_FIELD_NUMBER: _ClassVar[int]
    VARIABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_PER_JOB_FIELD_NUMBER: _ClassVar[int]
    CHILD_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    allocations_per_ordinal: int
    allocation_age_ms: int
    stopped_job_age_ms: int
    events: int
    answers: int
    answer_age_ms: int
    answer_bytes: int
    variable_bytes: int
    default_placement: str
    children_per_job: int
    child_age_ms: int
    def __init__(self, allocations_per_ordinal: _Optional[int] = ..., allocation_age_ms: _Optional[int] = ..., stopped_job_age_ms: _Optional[int] = ..., events: _Optional[int] = ..., answers: _Optional[int] = ..., answer_age_ms: _Optional[int] = ..., answer_bytes: _Optional[int] = ..., variable_bytes: _Optional[int] = ..., default_placement: _Optional[str] = ..., children_per_job: _Optional[int] = ..., child_age_ms: _Optional[int] = ...) -> None: ...
