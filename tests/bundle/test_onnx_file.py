"""What is read of an ONNX file, against the onnx library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from manylabel.bundle.onnx_file import get_metadata, needs_other_files, set_metadata
from manylabel.errors import BundleError


def build_model(metadata: dict[str, str]) -> bytes:
    shape = ["batch", 3]
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph)
    helper.set_model_props(model, metadata)
    return bytes(model.SerializeToString())


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "manylabel", "ü"]), st.text(max_size=300)), st.text(max_size=20_000))
def test_the_onnx_library_reads_what_was_set_and_all_the_rest(before: dict[str, str], value: str) -> None:
    data = build_model(before)
    changed = onnx.load_from_string(set_metadata(data, "manylabel", value))
    assert {prop.key: prop.value for prop in changed.metadata_props} == {**before, "manylabel": value}
    assert len(changed.metadata_props) == len(before.keys() | {"manylabel"})
    original = onnx.load_from_string(data)
    assert changed.graph == original.graph
    assert changed.opset_import == original.opset_import
    onnx.checker.check_model(changed)
    assert get_metadata(set_metadata(data, "manylabel", value), "manylabel") == value
    assert get_metadata(data, "manylabel") == before.get("manylabel")
    assert get_metadata(data, "nowhere") is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff" * 12, id="no number ends"),
        pytest.param(b"\x72\x7f", id="longer than the file"),
        pytest.param(b"\x0b", id="a kind that does not exist"),
    ],
)
def test_what_is_no_onnx_file_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx: not an ONNX file\. Export the model again\."):
        set_metadata(data, "k", "v")


def build_with_tensor(place: str) -> onnx.ModelProto:
    """Return a model that has a tensor of 64 numbers as an initializer, in a node, or in a graph in a node."""
    tensor = onnx.numpy_helper.from_array(np.arange(64, dtype=np.float32), "t")
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [64])
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    if place == "initializer":
        graph = helper.make_graph([helper.make_node("Identity", ["t"], ["y"])], "g", [], [output], [tensor])
    elif place == "node":
        graph = helper.make_graph([constant], "g", [], [output])
    else:
        branch = helper.make_graph([constant], "branch", [], [output])
        condition = onnx.numpy_helper.from_array(np.array(True), "c")
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        graph = helper.make_graph([node], "g", [], [output], [condition])
    return helper.make_model(graph)


def wrap(*fields: tuple[int, bytes]) -> bytes:
    """Return a message with these fields of bytes."""
    return b"".join(write_number(number << 3 | 2) + write_number(len(value)) + value for number, value in fields)


def write_number(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


EXTERNAL = wrap((13, wrap((1, b"location"), (2, b"w.bin"))))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(wrap((7, wrap((5, EXTERNAL)))), id="initializer"),
        pytest.param(wrap((7, wrap((15, wrap((1, EXTERNAL)))))), id="sparse initializer"),
        pytest.param(wrap((7, wrap((1, wrap((5, wrap((10, EXTERNAL)))))))), id="tensors of a node"),
        pytest.param(wrap((7, wrap((1, wrap((5, wrap((22, wrap((1, EXTERNAL)))))))))), id="sparse tensor of a node"),
        pytest.param(wrap((7, wrap((1, wrap((5, wrap((23, wrap((2, EXTERNAL)))))))))), id="sparse tensors of a node"),
        pytest.param(wrap((7, wrap((1, wrap((5, wrap((11, wrap((5, EXTERNAL)))))))))), id="graphs of a node"),
        pytest.param(wrap((25, wrap((7, wrap((5, wrap((5, EXTERNAL)))))))), id="node of a function"),
        pytest.param(wrap((20, wrap((2, wrap((5, EXTERNAL)))))), id="training"),
    ],
)
def test_no_corner_of_a_file_hides_another_file(model: bytes) -> None:
    assert needs_other_files(model)
    assert not needs_other_files(model.replace(EXTERNAL, wrap((8, EXTERNAL[2:]))))


@pytest.mark.parametrize("tag", [b"\xba\x80\x80\x80\x10", b"\x02", b"\xff" * 9 + b"\x01"])
def test_a_tag_that_readers_would_take_for_different_ones_is_refused(tag: bytes) -> None:
    with pytest.raises(BundleError, match="not an ONNX file"):
        needs_other_files(tag + b"\x00")


@pytest.mark.parametrize("place", ["initializer", "node", "graph in a node"])
def test_tensors_in_other_files_are_found_wherever_they_stand(tmp_path: Path, place: str) -> None:
    model = build_with_tensor(place)
    assert not needs_other_files(model.SerializeToString())
    onnx.save(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=8, convert_attribute=True
    )
    if place == "graph in a node":  # the library leaves these alone: done by hand
        tensor = model.graph.node[0].attribute[0].g.node[0].attribute[0].t
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "../../etc/passwd"
        onnx.save(model, tmp_path / "m.onnx")
    assert needs_other_files((tmp_path / "m.onnx").read_bytes())
