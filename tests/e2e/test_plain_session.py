"""What comes over the wire is what a plain ONNX Runtime session gives for the unpadded sentence."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime as ort
from tests.e2e.conftest import REPOSITORY, ROOT
from tests.e2e.wire import chunks, configuration, sentences_of
from tokenizers import Tokenizer

from kniv.server.pipeline.decode import is_tree
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

VERSION = REPOSITORY / "kniv-mini" / "1"


def test_streamed_labels_are_those_of_a_plain_session(stub: stubs.AnnotationServiceStub) -> None:
    session = ort.InferenceSession(str(VERSION / "cascade-int8.onnx"), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(VERSION / "tokenizer.json"))
    labels = json.loads((VERSION / "labels.json").read_text(encoding="utf-8"))
    content = (ROOT / "examples" / "document.txt").read_bytes()
    responses = list(stub.StreamAnnotations(iter([configuration(), *chunks("d", content, 100)])))
    same = total = 0
    for sentence in sentences_of(responses, "d"):
        encoded = tokenizer.encode([token.text for token in sentence.tokens], is_pretokenized=True)
        first = [encoded.word_ids.index(word) for word in range(len(sentence.tokens))]
        pos, arcs = run(session, encoded.ids, ["pos_logits", "arc_scores"])
        tags = [labels["pos"][best] for best in pos[first].argmax(-1)]
        same += sum(tag == token.upos for tag, token in zip(tags, sentence.tokens, strict=True))
        total += len(first)
        heads = arcs[np.ix_(first, first)].argmax(-1)
        if is_tree(heads):  # where they are none, the server makes one
            assert [token.dependency.head for token in sentence.tokens] == heads.tolist()
        (act,) = run(session, tokenizer.encode(sentence.text).ids, ["cls_logits"])
        assert sentence.dialog_act.label == labels["cls"][act.argmax()]
    assert same >= 0.999 * total


def run(session: ort.InferenceSession, ids: list[int], outputs: list[str]) -> list[np.ndarray]:
    feed = {"input_ids": [ids], "attention_mask": [[1] * len(ids)], "predicate_idx": [0]}
    return [values[0] for values in session.run(outputs, {name: np.array(value) for name, value in feed.items()})]


def test_unary_and_streamed_answers_are_equal(stub: stubs.AnnotationServiceStub) -> None:
    text = (ROOT / "examples" / "document.txt").read_text(encoding="utf-8")
    unary = stub.AnnotateText(calls.AnnotateTextRequest(inputs=[calls.TextInput(text=text)]))
    responses = list(stub.StreamAnnotations(iter([configuration(), *chunks("d", text.encode(), 17)])))
    streamed = sentences_of(responses, "d")
    for one in (*unary.results[0].annotation.sentences, *streamed):
        one.ClearField("timings")
    assert list(unary.results[0].annotation.sentences) == streamed
