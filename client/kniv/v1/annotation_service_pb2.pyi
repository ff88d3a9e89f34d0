from kniv.v1 import annotation_pb2 as _annotation_pb2
from kniv.v1 import model_pb2 as _model_pb2
from kniv.v1 import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Ordering(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORDERING_UNSPECIFIED: _ClassVar[Ordering]
    ORDERING_AS_READY: _ClassVar[Ordering]
    ORDERING_IN_ORDER: _ClassVar[Ordering]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_COMPLETE: _ClassVar[Outcome]
    OUTCOME_CANCELLED: _ClassVar[Outcome]
    OUTCOME_SUPERSEDED: _ClassVar[Outcome]
ORDERING_UNSPECIFIED: Ordering
ORDERING_AS_READY: Ordering
ORDERING_IN_ORDER: Ordering
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_COMPLETE: Outcome
OUTCOME_CANCELLED: Outcome
OUTCOME_SUPERSEDED: Outcome

class AnnotationOptions(_message.Message):
    __slots__ = ("model", "version", "variant", "tasks", "offset_unit", "priority")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_UNIT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    variant: str
    tasks: _containers.RepeatedScalarFieldContainer[_annotation_pb2.Task]
    offset_unit: _annotation_pb2.OffsetUnit
    priority: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., variant: _Optional[str] = ..., tasks: _Optional[_Iterable[_Union[_annotation_pb2.Task, str]]] = ..., offset_unit: _Optional[_Union[_annotation_pb2.OffsetUnit, str]] = ..., priority: _Optional[int] = ...) -> None: ...

class TextInput(_message.Message):
    __slots__ = ("text", "previous_text", "predicates")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_TEXT_FIELD_NUMBER: _ClassVar[int]
    PREDICATES_FIELD_NUMBER: _ClassVar[int]
    text: str
    previous_text: str
    predicates: _containers.RepeatedCompositeFieldContainer[_annotation_pb2.Span]
    def __init__(self, text: _Optional[str] = ..., previous_text: _Optional[str] = ..., predicates: _Optional[_Iterable[_Union[_annotation_pb2.Span, _Mapping]]] = ...) -> None: ...

class AnnotateTextRequest(_message.Message):
    __slots__ = ("inputs", "options", "request_id")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[TextInput]
    options: AnnotationOptions
    request_id: str
    def __init__(self, inputs: _Optional[_Iterable[_Union[TextInput, _Mapping]]] = ..., options: _Optional[_Union[AnnotationOptions, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class TextAnnotation(_message.Message):
    __slots__ = ("sentences",)
    SENTENCES_FIELD_NUMBER: _ClassVar[int]
    sentences: _containers.RepeatedCompositeFieldContainer[_annotation_pb2.SentenceAnnotation]
    def __init__(self, sentences: _Optional[_Iterable[_Union[_annotation_pb2.SentenceAnnotation, _Mapping]]] = ...) -> None: ...

class TextResult(_message.Message):
    __slots__ = ("annotation", "error")
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    annotation: TextAnnotation
    error: _status_pb2.Status
    def __init__(self, annotation: _Optional[_Union[TextAnnotation, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class AnnotateTextResponse(_message.Message):
    __slots__ = ("results", "model", "timings", "request_id")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[TextResult]
    model: _annotation_pb2.ModelReference
    timings: _annotation_pb2.Timings
    request_id: str
    def __init__(self, results: _Optional[_Iterable[_Union[TextResult, _Mapping]]] = ..., model: _Optional[_Union[_annotation_pb2.ModelReference, _Mapping]] = ..., timings: _Optional[_Union[_annotation_pb2.Timings, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class StreamConfiguration(_message.Message):
    __slots__ = ("options", "ordering", "context_turns")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ORDERING_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TURNS_FIELD_NUMBER: _ClassVar[int]
    options: AnnotationOptions
    ordering: Ordering
    context_turns: int
    def __init__(self, options: _Optional[_Union[AnnotationOptions, _Mapping]] = ..., ordering: _Optional[_Union[Ordering, str]] = ..., context_turns: _Optional[int] = ...) -> None: ...

class Turn(_message.Message):
    __slots__ = ("turn_id", "speaker", "text", "is_partial", "revision", "predicates", "context_only")
    TURN_ID_FIELD_NUMBER: _ClassVar[int]
    SPEAKER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_PARTIAL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PREDICATES_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_ONLY_FIELD_NUMBER: _ClassVar[int]
    turn_id: str
    speaker: str
    text: str
    is_partial: bool
    revision: int
    predicates: _containers.RepeatedCompositeFieldContainer[_annotation_pb2.Span]
    context_only: bool
    def __init__(self, turn_id: _Optional[str] = ..., speaker: _Optional[str] = ..., text: _Optional[str] = ..., is_partial: _Optional[bool] = ..., revision: _Optional[int] = ..., predicates: _Optional[_Iterable[_Union[_annotation_pb2.Span, _Mapping]]] = ..., context_only: _Optional[bool] = ...) -> None: ...

class DocumentChunk(_message.Message):
    __slots__ = ("document_id", "content", "last")
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    content: bytes
    last: bool
    def __init__(self, document_id: _Optional[str] = ..., content: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class Cancellation(_message.Message):
    __slots__ = ("item",)
    ITEM_FIELD_NUMBER: _ClassVar[int]
    item: ItemReference
    def __init__(self, item: _Optional[_Union[ItemReference, _Mapping]] = ...) -> None: ...

class ItemReference(_message.Message):
    __slots__ = ("turn_id", "document_id", "revision")
    TURN_ID_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    turn_id: str
    document_id: str
    revision: int
    def __init__(self, turn_id: _Optional[str] = ..., document_id: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class StreamAnnotationsRequest(_message.Message):
    __slots__ = ("configuration", "turn", "document_chunk", "cancellation")
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    CANCELLATION_FIELD_NUMBER: _ClassVar[int]
    configuration: StreamConfiguration
    turn: Turn
    document_chunk: DocumentChunk
    cancellation: Cancellation
    def __init__(self, configuration: _Optional[_Union[StreamConfiguration, _Mapping]] = ..., turn: _Optional[_Union[Turn, _Mapping]] = ..., document_chunk: _Optional[_Union[DocumentChunk, _Mapping]] = ..., cancellation: _Optional[_Union[Cancellation, _Mapping]] = ...) -> None: ...

class StreamConfigured(_message.Message):
    __slots__ = ("model", "tasks")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    model: _annotation_pb2.ModelReference
    tasks: _containers.RepeatedScalarFieldContainer[_annotation_pb2.Task]
    def __init__(self, model: _Optional[_Union[_annotation_pb2.ModelReference, _Mapping]] = ..., tasks: _Optional[_Iterable[_Union[_annotation_pb2.Task, str]]] = ...) -> None: ...

class SentenceResult(_message.Message):
    __slots__ = ("item", "annotation", "speaker")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    SPEAKER_FIELD_NUMBER: _ClassVar[int]
    item: ItemReference
    annotation: _annotation_pb2.SentenceAnnotation
    speaker: str
    def __init__(self, item: _Optional[_Union[ItemReference, _Mapping]] = ..., annotation: _Optional[_Union[_annotation_pb2.SentenceAnnotation, _Mapping]] = ..., speaker: _Optional[str] = ...) -> None: ...

class ItemCompletion(_message.Message):
    __slots__ = ("item", "outcome", "sentence_count", "timings")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    item: ItemReference
    outcome: Outcome
    sentence_count: int
    timings: _annotation_pb2.Timings
    def __init__(self, item: _Optional[_Union[ItemReference, _Mapping]] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., sentence_count: _Optional[int] = ..., timings: _Optional[_Union[_annotation_pb2.Timings, _Mapping]] = ...) -> None: ...

class ItemError(_message.Message):
    __slots__ = ("item", "error", "item_ended")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ITEM_ENDED_FIELD_NUMBER: _ClassVar[int]
    item: ItemReference
    error: _status_pb2.Status
    item_ended: bool
    def __init__(self, item: _Optional[_Union[ItemReference, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., item_ended: _Optional[bool] = ...) -> None: ...

class StreamAnnotationsResponse(_message.Message):
    __slots__ = ("configured", "sentence", "completion", "error")
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    configured: StreamConfigured
    sentence: SentenceResult
    completion: ItemCompletion
    error: ItemError
    def __init__(self, configured: _Optional[_Union[StreamConfigured, _Mapping]] = ..., sentence: _Optional[_Union[SentenceResult, _Mapping]] = ..., completion: _Optional[_Union[ItemCompletion, _Mapping]] = ..., error: _Optional[_Union[ItemError, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "view")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    view: _model_pb2.ModelView
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., view: _Optional[_Union[_model_pb2.ModelView, str]] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[_model_pb2.Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[_model_pb2.Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name", "view")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    name: str
    view: _model_pb2.ModelView
    def __init__(self, name: _Optional[str] = ..., view: _Optional[_Union[_model_pb2.ModelView, str]] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.Model
    def __init__(self, model: _Optional[_Union[_model_pb2.Model, _Mapping]] = ...) -> None: ...
