from cluster.pb.v1 import core_pb2 as _core_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainRequest(_message.Message):
    __slots__ = ("namespace", "pod", "not_on")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    NOT_ON_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    pod: str
    not_on: str
    def __init__(self, namespace: _Optional[str] = ..., pod: _Optional[str] = ..., not_on: _Optional[str] = ...) -> None: ...

class FilterCheck(_message.Message):
    __slots__ = ("filter", "passed", "detail")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    filter: str
    passed: bool
    detail: str
    def __init__(self, filter: _Optional[str] = ..., passed: _Optional[bool] = ..., detail: _Optional[str] = ...) -> None: ...

class NodeScore(_message.Message):
    __slots__ = ("name", "weight", "value", "detail")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    name: str
    weight: int
    value: int
    detail: str
    def __init__(self, name: _Optional[str] = ..., weight: _Optional[int] = ..., value: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class NodeVerdict(_message.Message):
    __slots__ = ("node", "checks", "scores")
    NODE_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    node: str
    checks: _containers.RepeatedCompositeFieldContainer[FilterCheck]
    scores: _containers.RepeatedCompositeFieldContainer[NodeScore]
    def __init__(self, node: _Optional[str] = ..., checks: _Optional[_Iterable[_Union[FilterCheck, _Mapping]]] = ..., scores: _Optional[_Iterable[_Union[NodeScore, _Mapping]]] = ...) -> None: ...

class PlacementChange(_message.Message):
    __slots__ = ("node", "filter", "text", "effort")
    NODE_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EFFORT_FIELD_NUMBER: _ClassVar[int]
    node: str
    filter: str
    text: str
    effort: float
    def __init__(self, node: _Optional[str] = ..., filter: _Optional[str] = ..., text: _Optional[str] = ..., effort: _Optional[float] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("namespace", "pod", "assigned_to", "verdicts", "best", "message", "changes", "basis", "decision")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_TO_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    pod: str
    assigned_to: str
    verdicts: _containers.RepeatedCompositeFieldContainer[NodeVerdict]
    best: _containers.RepeatedScalarFieldContainer[str]
    message: str
    changes: _containers.RepeatedCompositeFieldContainer[PlacementChange]
    basis: str
    decision: Decision
    def __init__(self, namespace: _Optional[str] = ..., pod: _Optional[str] = ..., assigned_to: _Optional[str] = ..., verdicts: _Optional[_Iterable[_Union[NodeVerdict, _Mapping]]] = ..., best: _Optional[_Iterable[str]] = ..., message: _Optional[str] = ..., changes: _Optional[_Iterable[_Union[PlacementChange, _Mapping]]] = ..., basis: _Optional[str] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ...) -> None: ...

class DecisionsRequest(_message.Message):
    __slots__ = ("since", "limit")
    SINCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    since: int
    limit: int
    def __init__(self, since: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class DecisionsResponse(_message.Message):
    __slots__ = ("decisions", "made")
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    MADE_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    made: int
    def __init__(self, decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ..., made: _Optional[int] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("namespace", "pod", "uid", "number", "revision", "time", "profile", "class_number", "priority", "tie_seed", "placed", "made_room", "not_placed")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CLASS_NUMBER_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TIE_SEED_FIELD_NUMBER: _ClassVar[int]
    PLACED_FIELD_NUMBER: _ClassVar[int]
    MADE_ROOM_FIELD_NUMBER: _ClassVar[int]
    NOT_PLACED_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    pod: str
    uid: str
    number: int
    revision: int
    time: _core_pb2.Time
    profile: str
    class_number: int
    priority: int
    tie_seed: int
    placed: Placed
    made_room: MadeRoom
    not_placed: NotPlaced
    def __init__(self, namespace: _Optional[str] = ..., pod: _Optional[str] = ..., uid: _Optional[str] = ..., number: _Optional[int] = ..., revision: _Optional[int] = ..., time: _Optional[_Union[_core_pb2.Time, _Mapping]] = ..., profile: _Optional[str] = ..., class_number: _Optional[int] = ..., priority: _Optional[int] = ..., tie_seed: _Optional[int] = ..., placed: _Optional[_Union[Placed, _Mapping]] = ..., made_room: _Optional[_Union[MadeRoom, _Mapping]] = ..., not_placed: _Optional[_Union[NotPlaced, _Mapping]] = ...) -> None: ...

class Placed(_message.Message):
    __slots__ = ("node", "score", "feasible", "ties")
    NODE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    FEASIBLE_FIELD_NUMBER: _ClassVar[int]
    TIES_FIELD_NUMBER: _ClassVar[int]
    node: str
    score: int
    feasible: int
    ties: int
    def __init__(self, node: _Optional[str] = ..., score: _Optional[int] = ..., feasible: _Optional[int] = ..., ties: _Optional[int] = ...) -> None: ...

class MadeRoom(_message.Message):
    __slots__ = ("node", "victims", "message")
    NODE_FIELD_NUMBER: _ClassVar[int]
    VICTIMS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    node: str
    victims: _containers.RepeatedScalarFieldContainer[str]
    message: str
    def __init__(self, node: _Optional[str] = ..., victims: _Optional[_Iterable[str]] = ..., message: _Optional[str] = ...) -> None: ...

class NotPlaced(_message.Message):
    __slots__ = ("message", "filters")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    message: str
    filters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, message: _Optional[str] = ..., filters: _Optional[_Iterable[str]] = ...) -> None: ...
