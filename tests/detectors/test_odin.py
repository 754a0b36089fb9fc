"""ODIN against finite differences of a float64 reference, and what it promises about weights and batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from torch import Tensor, nn

from strays.cards import Card
from strays.detectors import build_detector
from strays.detectors.msp import msp
from strays.detectors.odin import double_softmax_surprise, odin_step, surprise
from strays.errors import InputError
from strays.networks.base import IMAGENET, SegmentationNetwork
from strays.prediction import Prediction

STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
SIZE = (8, 10)


class _Net(SegmentationNetwork):
    card = Card(title="Net", summary="Two convolutions.")
    normalization = IMAGENET
    stride = 2

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.configuration = {}
        self.tap_modules = {}
        self.scale = scale
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 6, 1)
        self.eval()

    def logits(self, normalized: Tensor) -> Tensor:
        return self.scale * self.last(torch.tanh(self.first(normalized)))


class _Blind(_Net):
    """A network that cuts its gradients, as a foreign runtime does."""

    def logits(self, normalized: Tensor) -> Tensor:
        return super().logits(normalized.detach()).detach()


class _Constant(_Net):
    """A network that has weights, but does not look."""

    def logits(self, normalized: Tensor) -> Tensor:
        return super().logits(torch.zeros_like(normalized))


def images(count: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 6, 8, generator=torch.Generator().manual_seed(seed))


def random_logits(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 4


def reference_loss(network: _Net, image: Tensor, temperature: float, smiyc: bool, void: int | None = None) -> float:
    """The mean over the pixels, in float64."""
    with torch.no_grad():
        maps = network(image)
        maps = torch.nn.functional.interpolate(maps, SIZE, mode="bilinear", align_corners=False)
    z = maps.numpy() if void is None else np.delete(maps.numpy(), void, axis=1)
    if smiyc:
        p = softmax(z, axis=1)
        return float(np.mean(logsumexp(p, axis=1) - p.max(axis=1)))
    return float(np.mean(-np.log(softmax(z / temperature, axis=1).max(axis=1))))


def reference_gradient(network: _Net, image: Tensor, *settings: object) -> Tensor:
    """Central differences, pixel by pixel and channel by channel."""
    gradient = torch.zeros_like(image)
    for index in np.ndindex(*image.shape):
        ahead, behind = image.clone(), image.clone()
        ahead[index] += 1e-5
        behind[index] -= 1e-5
        gradient[index] = reference_loss(network, ahead, *settings) - reference_loss(network, behind, *settings)
    return gradient / 2e-5


def reference_score(network: _Net, image: Tensor, temperature: float, void: int | None = None) -> NDArray[np.float64]:
    with torch.no_grad():
        maps = torch.nn.functional.interpolate(network(image), SIZE, mode="bilinear", align_corners=False)
    z = maps.numpy() if void is None else np.delete(maps.numpy(), void, axis=1)
    return 1 - softmax(z / temperature, axis=1).max(axis=1)


@pytest.mark.parametrize(("smiyc", "void"), [(False, None), (True, None), (False, 2)])
def test_equals_a_float64_reference_with_finite_differences(smiyc: bool, void: int | None) -> None:
    network, image = _Net(scale=4).double(), images().double()
    temperature, step = 2.0, 0.05
    gradient = reference_gradient(network, image, temperature, smiyc, void)
    assert gradient.abs().min() > 1e-9  # no sign is a matter of rounding
    changed = image + (1 if smiyc else -1) * step * STD.double() * gradient.sign()
    detector = build_detector(f"odin:temperature={temperature},step={step},smiyc={smiyc}")
    got = detector(network.predict(image, SIZE, void=void))
    assert got.shape == (1, *SIZE)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, reference_score(network, changed, temperature, void), atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_surprise_is_minus_the_log_of_the_largest_probability(temperature: float) -> None:
    logits = random_logits(4, 6, 50).double()
    expected = -np.log(softmax(logits.numpy() / temperature, axis=1).max(axis=1))
    np.testing.assert_allclose(surprise(logits, temperature), expected, rtol=1e-10)
    assert torch.autograd.gradcheck(lambda z: surprise(z, temperature), logits[:1, :, :3].clone().requires_grad_())


def test_surprise_has_gradients_where_the_largest_probability_rounds_to_one() -> None:
    logits = torch.tensor([[30.0, 0.0, 1.0]], requires_grad=True)
    surprise(logits).backward()
    p = softmax([30.0, 0.0, 1.0])
    expected = np.array([-(p[1] + p[2]), p[1], p[2]])
    np.testing.assert_allclose(logits.grad[0], expected, rtol=1e-5)


def test_double_softmax_surprise_is_the_cross_entropy_of_the_softmax_output() -> None:
    logits = random_logits(3, 6, 4, 5)
    p = torch.softmax(logits.double(), dim=1)
    expected = nn.functional.cross_entropy(p, logits.argmax(dim=1), reduction="none")
    torch.testing.assert_close(double_softmax_surprise(logits), expected.float())


def test_step_has_the_unit_of_the_normalised_image() -> None:
    image, gradient = images(2).double(), torch.randn(2, 3, 6, 8, dtype=torch.float64)
    gradient[0, 0, 0, 0] = 0
    moved = IMAGENET(odin_step(image, gradient, 0.01)) - IMAGENET(image)
    torch.testing.assert_close(moved, -0.01 * gradient.sign())
    torch.testing.assert_close(odin_step(image, gradient, 0.01, reverse=True), odin_step(image, -gradient, 0.01))


def test_the_step_raises_confidence_and_that_of_the_benchmark_lowers_it() -> None:
    prediction = _Net(scale=4).predict(images(), SIZE)
    before = build_detector("odin:step=0")(prediction).mean()
    assert build_detector("odin:step=0.01")(prediction).mean() < before
    assert build_detector("odin:step=0.01,smiyc=true")(prediction).mean() > before


def test_without_a_step_it_is_the_tempered_msp() -> None:
    prediction = _Net(scale=4).predict(images(2), SIZE)
    expected = build_detector("msp:temperature=3")(prediction)
    torch.testing.assert_close(build_detector("odin:step=0")(prediction), expected, rtol=1e-5, atol=0)


def test_defaults_are_the_benchmarks() -> None:
    assert build_detector("odin").settings() == {"temperature": 3.0, "step": 1e-4, "smiyc": False}


@pytest.mark.parametrize("smiyc", [False, True])
def test_a_batch_is_scored_as_its_images_one_by_one(smiyc: bool) -> None:
    network, batch = _Net(scale=4), images(3)
    detector = build_detector(f"odin:step=0.05,smiyc={smiyc}")
    together = detector(network.predict(batch, SIZE))
    singles = [detector(network.predict(batch[index : index + 1], SIZE)) for index in range(3)]
    torch.testing.assert_close(together, torch.cat(singles), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_every_pixel_of_the_image_moves(scale: float) -> None:
    """Also with logits so large that every largest probability is 1 in float32."""
    seen = []
    network = _Net(scale)
    network.first.register_forward_hook(lambda module, given, out: seen.append(given[0].detach()))
    build_detector("odin:temperature=1,step=0.1")(network.predict(images(), SIZE))
    moved = (seen[-1] - seen[0]).abs()
    assert (moved > 0.09).float().mean() > 0.9


def test_weights_modes_and_the_image_stay_as_they_are() -> None:
    network, image = _Net(), images()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    prediction = network.predict(image, SIZE)
    before = image.clone()
    detector = build_detector("odin")
    score = detector(prediction)
    assert not score.requires_grad
    assert torch.equal(score, detector.score(prediction).detach())
    assert torch.equal(image, before)
    assert not image.requires_grad
    assert all(one.grad is None and one.requires_grad for one in network.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_works_where_the_caller_forbids_gradients() -> None:
    network = _Net(scale=4)
    detector = build_detector("odin:step=0.05")
    expected = detector(network.predict(images(), SIZE))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(detector(network.predict(images(), SIZE)), expected)


def test_a_network_of_frozen_weights_is_enough() -> None:
    network = _Net(scale=4)
    expected = build_detector("odin:step=0.05")(network.predict(images(), SIZE))
    network.requires_grad_(False)
    assert torch.equal(build_detector("odin:step=0.05")(network.predict(images(), SIZE)), expected)


@pytest.mark.parametrize("kind", [_Blind, _Constant])
def test_a_network_without_gradients_says_so(kind: type[_Net]) -> None:
    with pytest.raises(InputError, match=r"this network gives none .*ONNX.*: load it from PyTorch weights, or use msp"):
        build_detector("odin")(kind().predict(images(), SIZE))


def test_an_onnx_file_says_so(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from strays.networks.onnx import load_onnx

    make, real = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.ones((4, 3, 2, 2), np.float32), "weight")
    graph = make.make_graph(
        [make.make_node("Conv", ["rgb", "weight"], ["logits"], strides=[2, 2])],
        "net",
        [make.make_tensor_value_info("rgb", real, ["n", 3, "h", "w"])],
        [make.make_tensor_value_info("logits", real, ["n", 4, "a", "b"])],
        [weight],
    )
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9), tmp_path / "net.onnx")
    prediction = load_onnx(str(tmp_path / "net.onnx")).predict(images(), SIZE)
    with pytest.raises(InputError, match="this network gives none"):
        build_detector("odin")(prediction)


def test_a_prediction_without_its_network_says_so() -> None:
    with pytest.raises(InputError, match="the detector 'odin' runs the network again"):
        build_detector("odin")(Prediction(torch.zeros(1, 4, 3, 4), SIZE))


@pytest.mark.parametrize("settings", ["temperature=0", "temperature=nan", "step=-0.1", "step=inf", "step=nan"])
def test_settings_out_of_range_are_refused(settings: str) -> None:
    with pytest.raises(InputError, match=r"expected a (temperature above 0|step of 0 or more)"):
        build_detector(f"odin:{settings}")


def test_saved_and_loaded_it_scores_the_same_bits(tmp_path: Path) -> None:
    detector = build_detector("odin:step=0.05,smiyc=true")
    detector.save(tmp_path / "odin.safetensors")
    prediction = _Net(scale=4).predict(images(), SIZE)
    assert torch.equal(build_detector(f"odin@{tmp_path}/odin.safetensors")(prediction), detector(prediction))


def test_score_is_the_msp_of_the_changed_image() -> None:
    seen = []
    network = _Net(scale=4)
    network.last.register_forward_hook(lambda module, given, out: seen.append(network.scale * out.detach()))
    got = build_detector("odin")(network.predict(images(), size=(3, 4)))
    torch.testing.assert_close(got, msp(seen[-1], 3.0), rtol=0, atol=0)
    assert len(seen) == 3
