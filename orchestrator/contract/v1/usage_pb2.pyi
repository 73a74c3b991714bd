from orchestrator.contract.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeUsage(_message.Message):
    __slots__ = ("node_id", "time_ms", "interval_ms", "cpu_millis", "cpu_total_millis", "memory_bytes", "memory_total_bytes", "disk_bytes", "disk_total_bytes", "load_millis", "tasks", "devices")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    CPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    CPU_TOTAL_MILLIS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOAD_MILLIS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    time_ms: int
    interval_ms: int
    cpu_millis: int
    cpu_total_millis: int
    memory_bytes: int
    memory_total_bytes: int
    disk_bytes: int
    disk_total_bytes: int
    load_millis: int
    tasks: _containers.RepeatedCompositeFieldContainer[TaskUsage]
    devices: _containers.RepeatedCompositeFieldContainer[DeviceUsage]
    def __init__(self, node_id: _Optional[str] = ..., time_ms: _Optional[int] = ..., interval_ms: _Optional[int] = ..., cpu_millis: _Optional[int] = ..., cpu_total_millis: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., memory_total_bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., disk_total_bytes: _Optional[int] = ..., load_millis: _Optional[int] = ..., tasks: _Optional[_Iterable[_Union[TaskUsage, _Mapping]]] = ..., devices: _Optional[_Iterable[_Union[DeviceUsage, _Mapping]]] = ...) -> None: ...

class TaskUsage(_message.Message):
    __slots__ = ("id", "attempt", "task", "cpu_millis", "memory_bytes", "memory_limit_bytes", "processes", "source", "why", "device_ids", "devices")
    ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    id: _types_pb2.AllocationId
    attempt: int
    task: str
    cpu_millis: int
    memory_bytes: int
    memory_limit_bytes: int
    processes: int
    source: str
    why: str
    device_ids: _containers.RepeatedScalarFieldContainer[str]
    devices: _containers.RepeatedCompositeFieldContainer[TaskDeviceUsage]
    def __init__(self, id: _Optional[_Union[_types_pb2.AllocationId, _Mapping]] = ..., attempt: _Optional[int] = ..., task: _Optional[str] = ..., cpu_millis: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., memory_limit_bytes: _Optional[int] = ..., processes: _Optional[int] = ..., source: _Optional[str] = ..., why: _Optional[str] = ..., device_ids: _Optional[_Iterable[str]] = ..., devices: _Optional[_Iterable[_Union[TaskDeviceUsage, _Mapping]]] = ...) -> None: ...

class TaskDeviceUsage(_message.Message):
    __slots__ = ("device_id", "memory_bytes", "percent")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    memory_bytes: int
    percent: int
    def __init__(self, device_id: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., percent: _Optional[int] = ...) -> None: ...

class DeviceUsage(_message.Message):
    __slots__ = ("device_id", "percent", "memory_bytes", "memory_total_bytes", "celsius", "milliwatts")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    CELSIUS_FIELD_NUMBER: _ClassVar[int]
    MILLIWATTS_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    percent: int
    memory_bytes: int
    memory_total_bytes: int
    celsius: int
    milliwatts: int
    def __init__(self, device_id: _Optional[str] = ..., percent: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., memory_total_bytes: _Optional[int] = ..., celsius: _Optional[int] = ..., milliwatts: _Optional[int] = ...) -> None: ...
