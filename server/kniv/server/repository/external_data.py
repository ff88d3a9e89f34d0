"""Graphs that name other files for their weights: a way out of a version's folder, so refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, NodeProto, TensorProto

from kniv.server.errors import RepositoryError


def refuse_external_data(path: Path) -> None:
    """Check that a graph holds all its weights itself and names no other file.

    Raises:
        RepositoryError: it is no ONNX file, or a weight lies in another file.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise RepositoryError(path, "is no ONNX graph, or a damaged one") from error
    functions = (_of_nodes(function.node) for function in model.functions)
    for tensor in chain(_of_graph(model.graph), *functions):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            named = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
            problem = f"keeps the weight '{tensor.name}' in another file ('{named}'); save it as one file"
            raise RepositoryError(path, problem)


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield sparse.values
                yield sparse.indices
            for graph in (attribute.g, *attribute.graphs):
                yield from _of_graph(graph)
