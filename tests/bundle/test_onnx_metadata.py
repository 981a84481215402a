"""Metadata of an ONNX file, against the onnx library."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from manylabel.bundle.onnx_metadata import set_metadata
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
