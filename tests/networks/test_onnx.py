"""Networks in ONNX files, against the modules that they were exported from."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from strays.errors import InputError
from strays.networks.base import SCHEMES
from strays.networks.onnx import OnnxNetwork, load_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FLOAT, HALF, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64
SHAPE = ["n", 3, "h", "w"]


def image(height: int = 32, width: int = 48, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1)).eval()


def convolution(
    path: Path,
    shape: list[str | int] = SHAPE,
    dtype: int = FLOAT,
    outputs: tuple[str, ...] = ("scores",),
    extra_inputs: tuple[str, ...] = (),
    argmax: bool = False,
    metadata: dict[str, str] | None = None,
) -> tuple[OnnxNetwork, np.ndarray]:
    """Write a 2x2 convolution of stride 2 with 4 classes by hand."""
    numpy_type = np.float16 if dtype == HALF else np.float32
    weight = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(numpy_type)
    nodes = [onnx.helper.make_node("Conv", ["rgb", "weight"], [name], strides=[2, 2]) for name in outputs]
    shapes = [onnx.helper.make_tensor_value_info(name, dtype, ["n", 4, "a", "b"]) for name in outputs]
    if argmax:
        nodes.append(onnx.helper.make_node("ArgMax", [outputs[0]], ["labels"], axis=1))
        shapes = [onnx.helper.make_tensor_value_info("labels", INT64, ["n", 1, "a", "b"])]
    inputs = [onnx.helper.make_tensor_value_info("rgb", dtype, shape)]
    inputs += [onnx.helper.make_tensor_value_info(name, dtype, [1]) for name in extra_inputs]
    graph = onnx.helper.make_graph(nodes, "net", inputs, shapes, [onnx.numpy_helper.from_array(weight, "weight")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return load_onnx(str(path)), weight


def expected(weight: np.ndarray, pixels: torch.Tensor) -> torch.Tensor:
    return functional.conv2d(pixels.double(), torch.from_numpy(weight).double(), stride=2).float()


def test_an_exported_network_gives_the_same_logits(tmp_path) -> None:
    pytest.importorskip("onnxscript")
    path, net = tmp_path / "net.onnx", module()
    sizes = {0: torch.export.Dim("n"), 2: torch.export.Dim("h"), 3: torch.export.Dim("w")}
    torch.onnx.export(net, (image(),), path, dynamo=True, dynamic_shapes=(sizes,), verbose=False, external_data=False)
    network = SCHEMES["onnx"](str(path))
    for pixels in (image(), image(20, 36, count=1)):
        prediction = network.predict(pixels)
        with torch.no_grad():
            torch.testing.assert_close(prediction.logits, net(pixels), atol=1e-5, rtol=1e-5)
        assert prediction.size == tuple(pixels.shape[-2:])
    assert (network.classes, network.stride) == (5, 2)
    assert network.taxonomy() is None
    assert not network.training


def test_fixed_sizes_resize_the_image(tmp_path) -> None:
    network, weight = convolution(tmp_path / "fixed.onnx", shape=["n", 3, 16, 24])
    prediction = network.predict(image(32, 60))
    resized = functional.interpolate(image(32, 60), size=(16, 24), mode="bilinear", antialias=True)
    torch.testing.assert_close(prediction.logits, expected(weight, resized), atol=1e-5, rtol=1e-5)
    assert prediction.size == (32, 60)
    assert network.stride == 4
    same = network.predict(image(16, 24))
    torch.testing.assert_close(same.logits, expected(weight, image(16, 24)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_fixed_batches_are_filled_up(tmp_path, batch) -> None:
    network, weight = convolution(tmp_path / "batch.onnx", shape=[batch, 3, "h", "w"])
    pixels = image(8, 8, count=3)
    torch.testing.assert_close(network(pixels), expected(weight, pixels), atol=1e-5, rtol=1e-5)


def test_half_precision_comes_back_as_float32(tmp_path) -> None:
    network, weight = convolution(tmp_path / "half.onnx", dtype=HALF)
    logits = network(image())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected(weight, image()), atol=2e-2, rtol=1e-2)


def test_metadata_are_honoured(tmp_path) -> None:
    taxonomy = {"name": "mine", "classes": [{"name": str(index), "colour": [index, 0, 0]} for index in range(4)]}
    metadata = {
        "strays.taxonomy": json.dumps(taxonomy),
        "strays.normalization": '{"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.5, 2]}',
    }
    network, weight = convolution(tmp_path / "told.onnx", metadata=metadata)
    assert network.taxonomy().names == ("0", "1", "2", "3")
    assert network.classes == 4
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1), torch.tensor([0.25, 0.5, 2]).view(1, 3, 1, 1)
    torch.testing.assert_close(network(image()), expected(weight, (image() - mean) / std), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "message"),
    [("strays.taxonomy", "is not a taxonomy"), ("strays.normalization", "expected a normalization like")],
)
def test_wrong_metadata_are_refused(tmp_path, key, message) -> None:
    with pytest.raises(InputError, match=message):
        convolution(tmp_path / "wrong.onnx", metadata={key: '{"name": 3}'})


def test_the_output_called_logits_is_taken(tmp_path) -> None:
    network, weight = convolution(tmp_path / "two.onnx", outputs=("aux", "logits"))
    torch.testing.assert_close(network(image()), expected(weight, image()), atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match=r"2 outputs \(aux, main\): expected one, or one called 'logits'"):
        convolution(tmp_path / "none.onnx", outputs=("aux", "main"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"extra_inputs": ("size",)}, r"has 2 inputs \(rgb, size\), expected one input"),
        ({"shape": ["n", 3, "h"]}, "cannot be read as an ONNX network|expected one input"),
        ({"argmax": True}, r"gives tensor\(int64\) .* export it without argmax"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, given, message) -> None:
    with pytest.raises(InputError, match=message):
        convolution(tmp_path / "other.onnx", **given)


def graph_of(path: Path, dtype: int, shape: list[str | int]) -> Path:
    node = onnx.helper.make_node("Identity", ["rgb"], ["logits"])
    given, taken = (onnx.helper.make_tensor_value_info(name, dtype, shape) for name in ("logits", "rgb"))
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "net", [taken], [given]),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("dtype", "shape", "found"),
    [
        (onnx.TensorProto.UINT8, SHAPE, r"tensor\(uint8\)"),
        (FLOAT, ["n", "h", "w", 3], r"\('n', 'h', 'w', 3\)"),
        (FLOAT, ["n", 4, "h", "w"], r"\('n', 4, 'h', 'w'\)"),
        (FLOAT, [3, "h", "w"], r"\(3, 'h', 'w'\)"),
    ],
)
def test_other_inputs_are_refused(tmp_path, dtype, shape, found) -> None:
    path = graph_of(tmp_path / "input.onnx", dtype, shape)
    with pytest.raises(InputError, match=rf"takes .*{found}.* expected one input of floats \(N, 3, H, W\)"):
        load_onnx(str(path))


def test_images_that_the_graph_cannot_take(tmp_path) -> None:
    network, _ = convolution(tmp_path / "small.onnx")
    with pytest.raises(InputError, match="cannot take images of 1x48"):
        network(image(1, 48))


def test_files_that_are_none(tmp_path) -> None:
    with pytest.raises(InputError, match="no ONNX file at"):
        load_onnx(str(tmp_path / "missing.onnx"))
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError, match="cannot be read as an ONNX network"):
        load_onnx(str(tmp_path / "text.onnx"))


def test_a_missing_runtime_says_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install 'strays\[export\]'"):
        load_onnx(str(tmp_path / "any.onnx"))


def test_threads_are_those_of_torch(tmp_path) -> None:
    network, _ = convolution(tmp_path / "threads.onnx")
    assert network._session.get_session_options().intra_op_num_threads == torch.get_num_threads()


def test_there_are_no_taps(tmp_path) -> None:
    network, _ = convolution(tmp_path / "taps.onnx")
    with pytest.raises(InputError, match="OnnxNetwork has no tap 'layer4'; its taps: none"):
        network.predict(image(), taps=["layer4"])


def test_two_files_have_two_fingerprints(tmp_path) -> None:
    first, _ = convolution(tmp_path / "first.onnx")
    second, _ = convolution(tmp_path / "second.onnx", shape=["n", 3, 16, 24])
    assert first.weights_sha256() == hashlib.sha256((tmp_path / "first.onnx").read_bytes()).hexdigest()
    assert first.weights_sha256() != second.weights_sha256()
