from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kniv.server.errors import RepositoryError
from kniv.server.repository.external_data import refuse_external_data
from kniv.server.repository.untrusted import SizeLimits, copy_bounded, inside, read_untrusted_object

LIMITS = SizeLimits(weights=100, tokenizer=50, json=20)


def test_a_file_of_the_folder_is_found_through_links_within_it(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx/cascade.onnx").write_bytes(b"x")
    (tmp_path / "cascade.onnx").symlink_to("onnx/cascade.onnx")
    assert inside(tmp_path, "cascade.onnx", LIMITS) == (tmp_path / "onnx/cascade.onnx").resolve()
    assert inside(tmp_path, "nothing.json", LIMITS) is None


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "leads out of the folder"),
        (lambda path: path.symlink_to("../outside"), "leads out of the folder"),
        (lambda path: path.symlink_to("gone"), "leads nowhere"),
        (lambda path: path.symlink_to(path.name), "cannot be read"),
        (os.mkfifo, "no regular file"),
        (Path.mkdir, "no regular file"),
        (lambda path: path.write_bytes(bytes(101)), "has 101 bytes, more than the 100"),
    ],
)
def test_what_is_no_file_of_the_folder_is_refused(tmp_path: Path, make: Callable[[Path], None], told: str) -> None:
    (tmp_path / "outside").write_text("secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder / "model.pt")
    with pytest.raises(RepositoryError, match=told):
        inside(folder, "model.pt", LIMITS)


def test_each_kind_of_file_has_its_limit(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(51))
    for name, fits in (("model.pt", True), ("tokenizer.json", False), ("metadata.json", False)):
        if fits:
            copy_bounded(source, tmp_path / name, LIMITS.of(name))
            assert (tmp_path / name).read_bytes() == source.read_bytes()
        else:
            with pytest.raises(RepositoryError, match="more than"):
                copy_bounded(source, tmp_path / name, LIMITS.of(name))


@pytest.mark.parametrize(("text", "told"), [("[" * 100_000, "too deeply"), ("[]", "object"), (" " * (5 << 20), "more")])
def test_json_that_is_no_small_object_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "metadata.json"
    path.write_text(text)
    with pytest.raises(RepositoryError, match=told):
        read_untrusted_object(path, SizeLimits())


def graph(weight: TensorProto, place: str) -> onnx.ModelProto:
    """A graph that holds ``weight`` as an initialiser, in a node, or in a graph within a node."""
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    constant = helper.make_node("Constant", [], ["y"], value=weight)
    if place == "initialiser":
        whole = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [result], [weight])
    elif place == "node":
        whole = helper.make_graph([constant], "g", [], [result])
    else:
        branch = helper.make_graph([constant], "branch", [], [result])
        yes = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
        choice = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
        whole = helper.make_graph([yes, choice], "g", [], [result])
    return helper.make_model(whole)


@pytest.mark.parametrize("location", ["../../etc/passwd", "weights.bin"])
@pytest.mark.parametrize("place", ["initialiser", "node", "branch"])
def test_a_graph_that_names_another_file_is_refused(tmp_path: Path, place: str, location: str) -> None:
    path = tmp_path / "cascade.onnx"
    weight = numpy_helper.from_array(np.ones(2, dtype=np.float32), "w")
    path.write_bytes(graph(weight, place).SerializeToString())
    refuse_external_data(path)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    path.write_bytes(graph(weight, place).SerializeToString())
    with pytest.raises(RepositoryError, match=f"'w' in another file \\('{location}'\\)"):
        refuse_external_data(path)


def test_a_damaged_graph_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "cascade.onnx"
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(RepositoryError, match="no ONNX graph"):
        refuse_external_data(path)
