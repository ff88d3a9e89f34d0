from kniv.v1 import annotation_pb2 as _annotation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelView(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_VIEW_UNSPECIFIED: _ClassVar[ModelView]
    MODEL_VIEW_BASIC: _ClassVar[ModelView]
    MODEL_VIEW_FULL: _ClassVar[ModelView]
MODEL_VIEW_UNSPECIFIED: ModelView
MODEL_VIEW_BASIC: ModelView
MODEL_VIEW_FULL: ModelView

class Model(_message.Message):
    __slots__ = ("name", "versions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    versions: _containers.RepeatedCompositeFieldContainer[ModelVersion]
    def __init__(self, name: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[ModelVersion, _Mapping]]] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("version", "variants", "default_variant", "ready", "reason", "tasks", "labels", "limits")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VARIANT_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    version: int
    variants: _containers.RepeatedScalarFieldContainer[str]
    default_variant: str
    ready: bool
    reason: str
    tasks: _containers.RepeatedScalarFieldContainer[_annotation_pb2.Task]
    labels: LabelSets
    limits: ModelLimits
    def __init__(self, version: _Optional[int] = ..., variants: _Optional[_Iterable[str]] = ..., default_variant: _Optional[str] = ..., ready: _Optional[bool] = ..., reason: _Optional[str] = ..., tasks: _Optional[_Iterable[_Union[_annotation_pb2.Task, str]]] = ..., labels: _Optional[_Union[LabelSets, _Mapping]] = ..., limits: _Optional[_Union[ModelLimits, _Mapping]] = ...) -> None: ...

class LabelSets(_message.Message):
    __slots__ = ("pos", "entity_types", "relations", "roles", "dialog_acts")
    POS_FIELD_NUMBER: _ClassVar[int]
    ENTITY_TYPES_FIELD_NUMBER: _ClassVar[int]
    RELATIONS_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    DIALOG_ACTS_FIELD_NUMBER: _ClassVar[int]
    pos: _containers.RepeatedScalarFieldContainer[str]
    entity_types: _containers.RepeatedScalarFieldContainer[str]
    relations: _containers.RepeatedScalarFieldContainer[str]
    roles: _containers.RepeatedScalarFieldContainer[str]
    dialog_acts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, pos: _Optional[_Iterable[str]] = ..., entity_types: _Optional[_Iterable[str]] = ..., relations: _Optional[_Iterable[str]] = ..., roles: _Optional[_Iterable[str]] = ..., dialog_acts: _Optional[_Iterable[str]] = ...) -> None: ...

class ModelLimits(_message.Message):
    __slots__ = ("max_subwords", "max_context_turns")
    MAX_SUBWORDS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_TURNS_FIELD_NUMBER: _ClassVar[int]
    max_subwords: int
    max_context_turns: int
    def __init__(self, max_subwords: _Optional[int] = ..., max_context_turns: _Optional[int] = ...) -> None: ...
