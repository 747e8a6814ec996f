from cluster.pb.v1 import core_pb2 as _core_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Object(_message.Message):
    __slots__ = ("pod", "node", "replicationcontroller", "service", "endpoints", "event", "namespace", "lease", "configmap", "secret", "priorityclass", "poddisruptionbudget", "serviceaccount", "customresourcedefinition", "customobject", "fault")
    POD_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    REPLICATIONCONTROLLER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    CONFIGMAP_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    PRIORITYCLASS_FIELD_NUMBER: _ClassVar[int]
    PODDISRUPTIONBUDGET_FIELD_NUMBER: _ClassVar[int]
    SERVICEACCOUNT_FIELD_NUMBER: _ClassVar[int]
    CUSTOMRESOURCEDEFINITION_FIELD_NUMBER: _ClassVar[int]
    CUSTOMOBJECT_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    pod: _core_pb2.Pod
    node: _core_pb2.Node
    replicationcontroller: _core_pb2.ReplicationController
    service: _core_pb2.Service
    endpoints: _core_pb2.Endpoints
    event: _core_pb2.Event
    namespace: _core_pb2.Namespace
    lease: _core_pb2.Lease
    configmap: _core_pb2.ConfigMap
    secret: _core_pb2.Secret
    priorityclass: _core_pb2.PriorityClass
    poddisruptionbudget: _core_pb2.PodDisruptionBudget
    serviceaccount: _core_pb2.ServiceAccount
    customresourcedefinition: _core_pb2.CustomResourceDefinition
    customobject: _core_pb2.CustomObject
    fault: _core_pb2.Fault
    def __init__(self, pod: _Optional[_Union[_core_pb2.Pod, _Mapping]] = ..., node: _Optional[_Union[_core_pb2.Node, _Mapping]] = ..., replicationcontroller: _Optional[_Union[_core_pb2.ReplicationController, _Mapping]] = ..., service: _Optional[_Union[_core_pb2.Service, _Mapping]] = ..., endpoints: _Optional[_Union[_core_pb2.Endpoints, _Mapping]] = ..., event: _Optional[_Union[_core_pb2.Event, _Mapping]] = ..., namespace: _Optional[_Union[_core_pb2.Namespace, _Mapping]] = ..., lease: _Optional[_Union[_core_pb2.Lease, _Mapping]] = ..., configmap: _Optional[_Union[_core_pb2.ConfigMap, _Mapping]] = ..., secret: _Optional[_Union[_core_pb2.Secret, _Mapping]] = ..., priorityclass: _Optional[_Union[_core_pb2.PriorityClass, _Mapping]] = ..., poddisruptionbudget: _Optional[_Union[_core_pb2.PodDisruptionBudget, _Mapping]] = ..., serviceaccount: _Optional[_Union[_core_pb2.ServiceAccount, _Mapping]] = ..., customresourcedefinition: _Optional[_Union[_core_pb2.CustomResourceDefinition, _Mapping]] = ..., customobject: _Optional[_Union[_core_pb2.CustomObject, _Mapping]] = ..., fault: _Optional[_Union[_core_pb2.Fault, _Mapping]] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("status", "message", "reason", "details", "code", "store_id", "revision", "oldest_revision", "last_revision")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OLDEST_REVISION_FIELD_NUMBER: _ClassVar[int]
    LAST_REVISION_FIELD_NUMBER: _ClassVar[int]
    status: str
    message: str
    reason: str
    details: StatusDetails
    code: int
    store_id: str
    revision: int
    oldest_revision: int
    last_revision: int
    def __init__(self, status: _Optional[str] = ..., message: _Optional[str] = ..., reason: _Optional[str] = ..., details: _Optional[_Union[StatusDetails, _Mapping]] = ..., code: _Optional[int] = ..., store_id: _Optional[str] = ..., revision: _Optional[int] = ..., oldest_revision: _Optional[int] = ..., last_revision: _Optional[int] = ...) -> None: ...

class StatusDetails(_message.Message):
    __slots__ = ("name", "group", "kind", "causes", "retryAfterSeconds", "uid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CAUSES_FIELD_NUMBER: _ClassVar[int]
    RETRYAFTERSECONDS_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    name: str
    group: str
    kind: str
    causes: _containers.RepeatedCompositeFieldContainer[StatusCause]
    retryAfterSeconds: int
    uid: str
    def __init__(self, name: _Optional[str] = ..., group: _Optional[str] = ..., kind: _Optional[str] = ..., causes: _Optional[_Iterable[_Union[StatusCause, _Mapping]]] = ..., retryAfterSeconds: _Optional[int] = ..., uid: _Optional[str] = ...) -> None: ...

class StatusCause(_message.Message):
    __slots__ = ("reason", "message", "field")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    field: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("kind", "namespace", "name", "revision", "time", "allow_stale")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ALLOW_STALE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    name: str
    revision: int
    time: _core_pb2.Time
    allow_stale: bool
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., revision: _Optional[int] = ..., time: _Optional[_Union[_core_pb2.Time, _Mapping]] = ..., allow_stale: _Optional[bool] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("object", "revision", "store_id")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    object: Object
    revision: int
    store_id: str
    def __init__(self, object: _Optional[_Union[Object, _Mapping]] = ..., revision: _Optional[int] = ..., store_id: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("kind", "namespace", "label_selector", "field_selector", "limit", "revision", "time", "allow_stale")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    FIELD_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ALLOW_STALE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    label_selector: str
    field_selector: str
    limit: int
    revision: int
    time: _core_pb2.Time
    allow_stale: bool
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., label_selector: _Optional[str] = ..., field_selector: _Optional[str] = ..., limit: _Optional[int] = ..., revision: _Optional[int] = ..., time: _Optional[_Union[_core_pb2.Time, _Mapping]] = ..., allow_stale: _Optional[bool] = ..., **kwargs) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("items", "revision", "remaining_item_count", "store_id")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_FIELD_NUMBER: _ClassVar[int]
    REMAINING_ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Object]
    revision: int
    remaining_item_count: int
    store_id: str
    def __init__(self, items: _Optional[_Iterable[_Union[Object, _Mapping]]] = ..., revision: _Optional[int] = ..., remaining_item_count: _Optional[int] = ..., store_id: _Optional[str] = ..., **kwargs) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("kind", "namespace", "label_selector", "field_selector", "after_revision", "initial_state", "store_id", "allow_stale")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    FIELD_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    AFTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    INITIAL_STATE_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    ALLOW_STALE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    label_selector: str
    field_selector: str
    after_revision: int
    initial_state: bool
    store_id: str
    allow_stale: bool
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., label_selector: _Optional[str] = ..., field_selector: _Optional[str] = ..., after_revision: _Optional[int] = ..., initial_state: _Optional[bool] = ..., store_id: _Optional[str] = ..., allow_stale: _Optional[bool] = ...) -> None: ...

class WatchEvent(_message.Message):
    __slots__ = ("type", "revision", "object")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSPECIFIED: _ClassVar[WatchEvent.Type]
        ADDED: _ClassVar[WatchEvent.Type]
        MODIFIED: _ClassVar[WatchEvent.Type]
        DELETED: _ClassVar[WatchEvent.Type]
        BOOKMARK: _ClassVar[WatchEvent.Type]
        INITIAL_STATE_END: _ClassVar[WatchEvent.Type]
    UNSPECIFIED: WatchEvent.Type
    ADDED: WatchEvent.Type
    MODIFIED: WatchEvent.Type
    DELETED: WatchEvent.Type
    BOOKMARK: WatchEvent.Type
    INITIAL_STATE_END: WatchEvent.Type
    TYPE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    type: WatchEvent.Type
    revision: int
    object: Object
    def __init__(self, type: _Optional[_Union[WatchEvent.Type, str]] = ..., revision: _Optional[int] = ..., object: _Optional[_Union[Object, _Mapping]] = ...) -> None: ...

class WatchBatch(_message.Message):
    __slots__ = ("events", "store_id")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[WatchEvent]
    store_id: str
    def __init__(self, events: _Optional[_Iterable[_Union[WatchEvent, _Mapping]]] = ..., store_id: _Optional[str] = ...) -> None: ...

class WatchCall(_message.Message):
    __slots__ = ("id", "begin", "end")
    ID_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    id: int
    begin: WatchRequest
    end: bool
    def __init__(self, id: _Optional[int] = ..., begin: _Optional[_Union[WatchRequest, _Mapping]] = ..., end: _Optional[bool] = ...) -> None: ...

class WatchCalls(_message.Message):
    __slots__ = ("calls",)
    CALLS_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[WatchCall]
    def __init__(self, calls: _Optional[_Iterable[_Union[WatchCall, _Mapping]]] = ...) -> None: ...

class WatchAnswer(_message.Message):
    __slots__ = ("id", "batch", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    batch: WatchBatch
    error: Status
    def __init__(self, id: _Optional[int] = ..., batch: _Optional[_Union[WatchBatch, _Mapping]] = ..., error: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...

class WatchAnswers(_message.Message):
    __slots__ = ("answers",)
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[WatchAnswer]
    def __init__(self, answers: _Optional[_Iterable[_Union[WatchAnswer, _Mapping]]] = ...) -> None: ...

class ResolveRequest(_message.Message):
    __slots__ = ("namespace", "name", "allow_stale")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALLOW_STALE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    allow_stale: bool
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., allow_stale: _Optional[bool] = ...) -> None: ...

class ResolvedEndpoint(_message.Message):
    __slots__ = ("address", "ports", "state", "hostname", "node", "shard", "labels", "annotations", "target")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSPECIFIED: _ClassVar[ResolvedEndpoint.State]
        READY: _ClassVar[ResolvedEndpoint.State]
        NOT_READY: _ClassVar[ResolvedEndpoint.State]
        TERMINATING: _ClassVar[ResolvedEndpoint.State]
    UNSPECIFIED: ResolvedEndpoint.State
    READY: ResolvedEndpoint.State
    NOT_READY: ResolvedEndpoint.State
    TERMINATING: ResolvedEndpoint.State
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class AnnotationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    address: str
    ports: _containers.RepeatedCompositeFieldContainer[_core_pb2.EndpointPort]
    state: ResolvedEndpoint.State
    hostname: str
    node: str
    shard: str
    labels: _containers.ScalarMap[str, str]
    annotations: _containers.ScalarMap[str, str]
    target: _core_pb2.ObjectReference
    def __init__(self, address: _Optional[str] = ..., ports: _Optional[_Iterable[_Union[_core_pb2.EndpointPort, _Mapping]]] = ..., state: _Optional[_Union[ResolvedEndpoint.State, str]] = ..., hostname: _Optional[str] = ..., node: _Optional[str] = ..., shard: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., annotations: _Optional[_Mapping[str, str]] = ..., target: _Optional[_Union[_core_pb2.ObjectReference, _Mapping]] = ...) -> None: ...

class ResolvedService(_message.Message):
    __slots__ = ("namespace", "name", "type", "cluster_ip", "external_name", "ports", "endpoints")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_IP_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_NAME_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    type: str
    cluster_ip: str
    external_name: str
    ports: _containers.RepeatedCompositeFieldContainer[_core_pb2.ServicePort]
    endpoints: _containers.RepeatedCompositeFieldContainer[ResolvedEndpoint]
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[str] = ..., cluster_ip: _Optional[str] = ..., external_name: _Optional[str] = ..., ports: _Optional[_Iterable[_Union[_core_pb2.ServicePort, _Mapping]]] = ..., endpoints: _Optional[_Iterable[_Union[ResolvedEndpoint, _Mapping]]] = ...) -> None: ...

class ResolveResponse(_message.Message):
    __slots__ = ("service", "revision", "store_id")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    service: ResolvedService
    revision: int
    store_id: str
    def __init__(self, service: _Optional[_Union[ResolvedService, _Mapping]] = ..., revision: _Optional[int] = ..., store_id: _Optional[str] = ...) -> None: ...

class ServiceUpdate(_message.Message):
    __slots__ = ("service", "absent", "revision", "store_id")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    service: ResolvedService
    absent: bool
    revision: int
    store_id: str
    def __init__(self, service: _Optional[_Union[ResolvedService, _Mapping]] = ..., absent: _Optional[bool] = ..., revision: _Optional[int] = ..., store_id: _Optional[str] = ...) -> None: ...

class Preconditions(_message.Message):
    __slots__ = ("uid", "resource_version")
    UID_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_VERSION_FIELD_NUMBER: _ClassVar[int]
    uid: str
    resource_version: str
    def __init__(self, uid: _Optional[str] = ..., resource_version: _Optional[str] = ...) -> None: ...

class CreateOperation(_message.Message):
    __slots__ = ("object",)
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    object: Object
    def __init__(self, object: _Optional[_Union[Object, _Mapping]] = ...) -> None: ...

class UpdateOperation(_message.Message):
    __slots__ = ("object",)
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    object: Object
    def __init__(self, object: _Optional[_Union[Object, _Mapping]] = ...) -> None: ...

class UpdateStatusOperation(_message.Message):
    __slots__ = ("object",)
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    object: Object
    def __init__(self, object: _Optional[_Union[Object, _Mapping]] = ...) -> None: ...

class PatchOperation(_message.Message):
    __slots__ = ("kind", "namespace", "name", "merge_patch", "preconditions", "status")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MERGE_PATCH_FIELD_NUMBER: _ClassVar[int]
    PRECONDITIONS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    name: str
    merge_patch: bytes
    preconditions: Preconditions
    status: bool
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., merge_patch: _Optional[bytes] = ..., preconditions: _Optional[_Union[Preconditions, _Mapping]] = ..., status: _Optional[bool] = ...) -> None: ...

class BindOperation(_message.Message):
    __slots__ = ("namespace", "name", "node_name", "preconditions")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    PRECONDITIONS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    node_name: str
    preconditions: Preconditions
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., node_name: _Optional[str] = ..., preconditions: _Optional[_Union[Preconditions, _Mapping]] = ...) -> None: ...

class DeleteOperation(_message.Message):
    __slots__ = ("kind", "namespace", "name", "preconditions", "grace_period_seconds", "propagation_policy")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRECONDITIONS_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PROPAGATION_POLICY_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    name: str
    preconditions: Preconditions
    grace_period_seconds: int
    propagation_policy: str
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., preconditions: _Optional[_Union[Preconditions, _Mapping]] = ..., grace_period_seconds: _Optional[int] = ..., propagation_policy: _Optional[str] = ...) -> None: ...

class EvictOperation(_message.Message):
    __slots__ = ("namespace", "name", "preconditions", "grace_period_seconds")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRECONDITIONS_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    preconditions: Preconditions
    grace_period_seconds: int
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., preconditions: _Optional[_Union[Preconditions, _Mapping]] = ..., grace_period_seconds: _Optional[int] = ...) -> None: ...

class FieldManager(_message.Message):
    __slots__ = ("name", "subresource", "applied")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SUBRESOURCE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    name: str
    subresource: str
    applied: bool
    def __init__(self, name: _Optional[str] = ..., subresource: _Optional[str] = ..., applied: _Optional[bool] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("create", "update", "patch", "update_status", "bind", "delete", "evict", "manager")
    CREATE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    PATCH_FIELD_NUMBER: _ClassVar[int]
    UPDATE_STATUS_FIELD_NUMBER: _ClassVar[int]
    BIND_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    EVICT_FIELD_NUMBER: _ClassVar[int]
    MANAGER_FIELD_NUMBER: _ClassVar[int]
    create: CreateOperation
    update: UpdateOperation
    patch: PatchOperation
    update_status: UpdateStatusOperation
    bind: BindOperation
    delete: DeleteOperation
    evict: EvictOperation
    manager: FieldManager
    def __init__(self, create: _Optional[_Union[CreateOperation, _Mapping]] = ..., update: _Optional[_Union[UpdateOperation, _Mapping]] = ..., patch: _Optional[_Union[PatchOperation, _Mapping]] = ..., update_status: _Optional[_Union[UpdateStatusOperation, _Mapping]] = ..., bind: _Optional[_Union[BindOperation, _Mapping]] = ..., delete: _Optional[_Union[DeleteOperation, _Mapping]] = ..., evict: _Optional[_Union[EvictOperation, _Mapping]] = ..., manager: _Optional[_Union[FieldManager, _Mapping]] = ...) -> None: ...

class WriteRequest(_message.Message):
    __slots__ = ("operations", "atomic", "cause", "dry_run", "request_id")
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    ATOMIC_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    atomic: bool
    cause: _core_pb2.Cause
    dry_run: bool
    request_id: str
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., atomic: _Optional[bool] = ..., cause: _Optional[_Union[_core_pb2.Cause, _Mapping]] = ..., dry_run: _Optional[bool] = ..., request_id: _Optional[str] = ...) -> None: ...

class WriteCall(_message.Message):
    __slots__ = ("id", "request")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    id: int
    request: WriteRequest
    def __init__(self, id: _Optional[int] = ..., request: _Optional[_Union[WriteRequest, _Mapping]] = ...) -> None: ...

class WriteCalls(_message.Message):
    __slots__ = ("calls",)
    CALLS_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[WriteCall]
    def __init__(self, calls: _Optional[_Iterable[_Union[WriteCall, _Mapping]]] = ...) -> None: ...

class WriteAnswer(_message.Message):
    __slots__ = ("id", "response", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    response: WriteResponse
    error: Status
    def __init__(self, id: _Optional[int] = ..., response: _Optional[_Union[WriteResponse, _Mapping]] = ..., error: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...

class WriteAnswers(_message.Message):
    __slots__ = ("answers",)
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[WriteAnswer]
    def __init__(self, answers: _Optional[_Iterable[_Union[WriteAnswer, _Mapping]]] = ...) -> None: ...

class OperationResult(_message.Message):
    __slots__ = ("status", "object", "unchanged")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    status: Status
    object: Object
    unchanged: bool
    def __init__(self, status: _Optional[_Union[Status, _Mapping]] = ..., object: _Optional[_Union[Object, _Mapping]] = ..., unchanged: _Optional[bool] = ...) -> None: ...

class WriteResponse(_message.Message):
    __slots__ = ("results", "revision", "store_id", "replayed")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[OperationResult]
    revision: int
    store_id: str
    replayed: bool
    def __init__(self, results: _Optional[_Iterable[_Union[OperationResult, _Mapping]]] = ..., revision: _Optional[int] = ..., store_id: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("kind", "namespace", "name", "after_revision", "until_revision", "limit", "without_status")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    UNTIL_REVISION_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_STATUS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    name: str
    after_revision: int
    until_revision: int
    limit: int
    without_status: bool
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., after_revision: _Optional[int] = ..., until_revision: _Optional[int] = ..., limit: _Optional[int] = ..., without_status: _Optional[bool] = ...) -> None: ...

class FieldChange(_message.Message):
    __slots__ = ("path", "old", "new")
    PATH_FIELD_NUMBER: _ClassVar[int]
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    path: str
    old: str
    new: str
    def __init__(self, path: _Optional[str] = ..., old: _Optional[str] = ..., new: _Optional[str] = ...) -> None: ...

class HistoryEntry(_message.Message):
    __slots__ = ("type", "revision", "time", "actor", "cause", "changes", "object")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    type: WatchEvent.Type
    revision: int
    time: _core_pb2.Time
    actor: str
    cause: _core_pb2.Cause
    changes: _containers.RepeatedCompositeFieldContainer[FieldChange]
    object: Object
    def __init__(self, type: _Optional[_Union[WatchEvent.Type, str]] = ..., revision: _Optional[int] = ..., time: _Optional[_Union[_core_pb2.Time, _Mapping]] = ..., actor: _Optional[str] = ..., cause: _Optional[_Union[_core_pb2.Cause, _Mapping]] = ..., changes: _Optional[_Iterable[_Union[FieldChange, _Mapping]]] = ..., object: _Optional[_Union[Object, _Mapping]] = ...) -> None: ...

class HistoryResponse(_message.Message):
    __slots__ = ("entries", "oldest_revision", "revision", "store_id")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_REVISION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[HistoryEntry]
    oldest_revision: int
    revision: int
    store_id: str
    def __init__(self, entries: _Optional[_Iterable[_Union[HistoryEntry, _Mapping]]] = ..., oldest_revision: _Optional[int] = ..., revision: _Optional[int] = ..., store_id: _Optional[str] = ...) -> None: ...

class UndoRequest(_message.Message):
    __slots__ = ("kind", "namespace", "name", "to_revision", "dry_run", "request_id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TO_REVISION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    name: str
    to_revision: int
    dry_run: bool
    request_id: str
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., to_revision: _Optional[int] = ..., dry_run: _Optional[bool] = ..., request_id: _Optional[str] = ...) -> None: ...

class UndoResponse(_message.Message):
    __slots__ = ("result", "to_revision", "changes", "revision", "store_id")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    TO_REVISION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    result: OperationResult
    to_revision: int
    changes: _containers.RepeatedCompositeFieldContainer[FieldChange]
    revision: int
    store_id: str
    def __init__(self, result: _Optional[_Union[OperationResult, _Mapping]] = ..., to_revision: _Optional[int] = ..., changes: _Optional[_Iterable[_Union[FieldChange, _Mapping]]] = ..., revision: _Optional[int] = ..., store_id: _Optional[str] = ...) -> None: ...

class TraceRequest(_message.Message):
    __slots__ = ("kind", "namespace", "name")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    name: str
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class TraceStep(_message.Message):
    __slots__ = ("step", "object", "revision", "time", "actor", "cause", "message")
    STEP_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    step: str
    object: str
    revision: int
    time: _core_pb2.Time
    actor: str
    cause: _core_pb2.Cause
    message: str
    def __init__(self, step: _Optional[str] = ..., object: _Optional[str] = ..., revision: _Optional[int] = ..., time: _Optional[_Union[_core_pb2.Time, _Mapping]] = ..., actor: _Optional[str] = ..., cause: _Optional[_Union[_core_pb2.Cause, _Mapping]] = ..., message: _Optional[str] = ...) -> None: ...

class TraceResponse(_message.Message):
    __slots__ = ("steps", "gap", "revision", "store_id")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[TraceStep]
    gap: str
    revision: int
    store_id: str
    def __init__(self, steps: _Optional[_Iterable[_Union[TraceStep, _Mapping]]] = ..., gap: _Optional[str] = ..., revision: _Optional[int] = ..., store_id: _Optional[str] = ...) -> None: ...

class StoreStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StoreStatusResponse(_message.Message):
    __slots__ = ("store_id", "revision", "oldest_revision", "engine", "leader", "leader_address", "problems", "engine_version", "watches")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OLDEST_REVISION_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    LEADER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    WATCHES_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    revision: int
    oldest_revision: int
    engine: str
    leader: bool
    leader_address: str
    problems: _containers.RepeatedScalarFieldContainer[str]
    engine_version: str
    watches: int
    def __init__(self, store_id: _Optional[str] = ..., revision: _Optional[int] = ..., oldest_revision: _Optional[int] = ..., engine: _Optional[str] = ..., leader: _Optional[bool] = ..., leader_address: _Optional[str] = ..., problems: _Optional[_Iterable[str]] = ..., engine_version: _Optional[str] = ..., watches: _Optional[int] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BackupChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class NodeHeartbeat(_message.Message):
    __slots__ = ("node", "sequence", "usage")
    class UsageEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _core_pb2.Quantity
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_core_pb2.Quantity, _Mapping]] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    node: str
    sequence: int
    usage: _containers.MessageMap[str, _core_pb2.Quantity]
    def __init__(self, node: _Optional[str] = ..., sequence: _Optional[int] = ..., usage: _Optional[_Mapping[str, _core_pb2.Quantity]] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("heartbeats",)
    HEARTBEATS_FIELD_NUMBER: _ClassVar[int]
    heartbeats: _containers.RepeatedCompositeFieldContainer[NodeHeartbeat]
    def __init__(self, heartbeats: _Optional[_Iterable[_Union[NodeHeartbeat, _Mapping]]] = ...) -> None: ...

class HeartbeatResponse(_message.Message):
    __slots__ = ("unknown_nodes", "store_id")
    UNKNOWN_NODES_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    unknown_nodes: _containers.RepeatedScalarFieldContainer[str]
    store_id: str
    def __init__(self, unknown_nodes: _Optional[_Iterable[str]] = ..., store_id: _Optional[str] = ...) -> None: ...

class WatchHeartbeatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HeartbeatBatch(_message.Message):
    __slots__ = ("heartbeats", "store_id")
    HEARTBEATS_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    heartbeats: _containers.RepeatedCompositeFieldContainer[NodeHeartbeat]
    store_id: str
    def __init__(self, heartbeats: _Optional[_Iterable[_Union[NodeHeartbeat, _Mapping]]] = ..., store_id: _Optional[str] = ...) -> None: ...
