"""Typed client for kniv-serve.

from kniv.client import Client

with Client("localhost:50051") as client:
    for sentence in client.annotate("Ada wrote the first program."):
        print(sentence.dialog_act, [token.upos for token in sentence.tokens])
"""

from kniv.client._annotation import (
    Argument,
    DialogAct,
    Entity,
    Frame,
    LabelScore,
    ModelReference,
    OffsetUnit,
    Sentence,
    Task,
    Timings,
    Token,
)
from kniv.client._async_client import AsyncClient
from kniv.client._async_stream import AsyncStream
from kniv.client._client import Client
from kniv.client._credentials import tls_credentials
from kniv.client._errors import (
    CallCancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    KnivError,
    NotFoundError,
    NotReadyError,
    PermissionDeniedError,
    ResourceExhaustedError,
    ServerError,
    StreamClosedError,
    UnauthenticatedError,
    UnavailableError,
    UnreadResultsError,
)
from kniv.client._events import Event, Item, ItemDone, ItemFailed, Outcome, SentenceEvent
from kniv.client._formats import to_conllu, to_json
from kniv.client._model import LabelSets, ModelInfo, ModelLimits, ModelVersion
from kniv.client._options import Options, StreamOptions, TextInput
from kniv.client._reconnect import ConnectionLost, Reconnect
from kniv.client._render import render
from kniv.client._stream import Stream

__all__ = [
    "Argument",
    "AsyncClient",
    "AsyncStream",
    "CallCancelledError",
    "Client",
    "ConnectionLost",
    "DeadlineExceededError",
    "DialogAct",
    "Entity",
    "Event",
    "Frame",
    "InvalidRequestError",
    "Item",
    "ItemDone",
    "ItemFailed",
    "KnivError",
    "LabelScore",
    "LabelSets",
    "ModelInfo",
    "ModelLimits",
    "ModelReference",
    "ModelVersion",
    "NotFoundError",
    "NotReadyError",
    "OffsetUnit",
    "Options",
    "Outcome",
    "PermissionDeniedError",
    "Reconnect",
    "ResourceExhaustedError",
    "Sentence",
    "SentenceEvent",
    "ServerError",
    "Stream",
    "StreamClosedError",
    "StreamOptions",
    "Task",
    "TextInput",
    "Timings",
    "Token",
    "UnauthenticatedError",
    "UnavailableError",
    "UnreadResultsError",
    "render",
    "tls_credentials",
    "to_conllu",
    "to_json",
]
