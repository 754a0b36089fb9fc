"""A user's own module behind ``python:package.module:factory``."""

import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from strays.errors import InputError
from strays.networks.base import IMAGENET, SCHEMES, Normalization
from strays.networks.python_module import UserNetwork, load_python
from strays.taxonomy import CAMVID, CITYSCAPES

Writer = Callable[[str], str]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Writer:
    """Write a module into the current folder and return its name; another name in every test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    name = f"user_{abs(hash(request.node.nodeid))}"

    def write(code: str) -> str:
        (tmp_path / f"{name}.py").write_text("import torch\nfrom torch import nn\n" + textwrap.dedent(code))
        return name

    yield write
    sys.modules.pop(name, None)


NETWORK = """
    class Net(nn.Module):
        def __init__(self, classes=7):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
            self.blocks = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
            self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.head = nn.Conv2d(8, classes, 1)

        def forward(self, image):
            assert image.min() >= 0 and image.max() <= 1
            features = self.blocks(self.stem(image))
            self.pool(features)
            return RETURNED

    def build():
        torch.manual_seed(3)
        return Net()
"""


def image(height: int = 32, width: int = 48, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "returned", ["self.head(features)", "{'out': self.head(features)}", "{'aux': 0, 'logits': self.head(features)}"]
)
def test_logits_are_those_of_the_module(written, returned) -> None:
    name = written(NETWORK.replace("RETURNED", returned))
    network = load_python(f"{name}:build")
    assert isinstance(network, UserNetwork)
    assert (network.classes, network.stride, network.training) == (7, 4, False)
    prediction = network.predict(image())
    module = sys.modules[name].build().eval()
    expected = module.head(torch.relu(module.stem(image())))
    torch.testing.assert_close(prediction.logits, expected)
    assert prediction.logits.shape == (2, 7, 8, 12)


def test_every_submodule_is_a_tap(written) -> None:
    network = load_python(f"{written(NETWORK.replace('RETURNED', 'self.head(features)'))}:Net")
    assert set(network.tap_modules) == {"stem", "blocks", "blocks.0", "blocks.1", "pool", "pool.0", "pool.1", "head"}
    prediction = network.predict(image(), taps=["stem", "blocks.0", "head"])
    stem, relu, head = (prediction.features[tap] for tap in ("stem", "blocks.0", "head"))
    torch.testing.assert_close(stem, network.module.stem(image()))
    torch.testing.assert_close(relu, stem.relu())
    torch.testing.assert_close(head, prediction.logits)
    with pytest.raises(InputError, match=r"tap 'pool.1' gives \(2, 8\), expected a feature map"):
        network.predict(image(), taps=["pool.1"])
    with pytest.raises(InputError, match="no tap 'layer4'; its taps: stem, blocks"):
        network.predict(image(), taps=["layer4"])
    assert not any(module._forward_hooks for module in network.modules())


def test_the_current_folder_comes_first_once(written) -> None:
    name = written("def build():\n    return nn.Conv2d(3, 2, 1)")
    before = list(sys.path)
    load_python(f"{name}:build")
    assert sys.path == [*before, str(Path.cwd())]
    load_python(f"{name}:build")
    assert sys.path == [*before, str(Path.cwd())]


def test_nested_attributes_and_packages(written) -> None:
    package = Path.cwd() / "strays_test_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text("from torch import nn\nclass Zoo:\n    make = lambda: nn.Conv2d(3, 2, 1)\n")
    assert load_python("strays_test_package.nets:Zoo.make").classes == 2


def test_a_ready_network_is_taken_as_it_is(written) -> None:
    name = written(
        """
        from strays.networks.python_module import UserNetwork
        def build():
            return UserNetwork(nn.Conv2d(3, 4, 1), "inner")
        """
    )
    assert load_python(f"{name}:build").source == "inner"


def test_taxonomy_and_normalization_of_the_module_are_honoured(tmp_path) -> None:
    module = nn.Conv2d(3, 11, 1)
    assert UserNetwork(module).taxonomy() is None
    module.taxonomy, module.normalization = "camvid", ((0.1, 0.2, 0.3), (0.5, 0.5, 0.25))
    network = UserNetwork(module)
    assert network.taxonomy() == CAMVID
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.5, 0.25])
    expected = module((image() - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    torch.testing.assert_close(network(image()), expected)
    module.taxonomy, module.normalization = CITYSCAPES, IMAGENET
    assert UserNetwork(module).taxonomy() is CITYSCAPES
    assert UserNetwork(module).normalization is IMAGENET
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"name": "mine", "classes": [{"name": "all", "colour": [1, 2, 3]}]}))
    module.taxonomy, module.normalization = path, {"mean": [0, 0, 0], "std": [1, 1, 2]}
    assert UserNetwork(module).taxonomy().names == ("all",)
    assert UserNetwork(module).normalization == Normalization(std=(1.0, 1.0, 2.0))


def test_a_submodule_called_normalization_is_left_alone() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1))
    module.add_module("normalization", nn.BatchNorm2d(4))
    assert UserNetwork(module).normalization == Normalization()


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("taxonomy", 7, "attribute taxonomy of mine is int"),
        ("taxonomy", "atlantis", "no taxonomy or file is called 'atlantis'"),
        ("normalization", (0.5, 0.5), "attribute normalization of mine: expected a normalization like"),
        ("normalization", "imagenet", "expected a normalization like"),
        ("normalization", {"mean": [0, 0, 0]}, "expected a normalization like"),
        ("normalization", ((0, 0, 0), (1, 1, 0)), "expected a normalization like"),
    ],
)
def test_wrong_attributes_are_refused(attribute, value, message) -> None:
    module = nn.Conv2d(3, 4, 1)
    setattr(module, attribute, value)
    with pytest.raises(InputError, match=message):
        UserNetwork(module, "mine")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("[self.head(features)]", "it returned a list of 1"),
        ("None", "it returned NoneType"),
        ("{'pred': 0, 'aux': 1}", "it holds pred, aux"),
        ("{}", "it holds nothing"),
        ("self.head(features).argmax(1)", r"int64 \(1, 16, 16\): return what argmax was taken of"),
        ("self.head(features)[0]", r"for N = 1 it returned \(7, 16, 16\)"),
        ("self.head(features).repeat(2, 1, 1, 1)", r"for N = 1 it returned \(2, 7, 16, 16\)"),
    ],
)
def test_other_outputs_are_refused_at_once(written, returned, message) -> None:
    with pytest.raises(InputError, match=message):
        load_python(f"{written(NETWORK.replace('RETURNED', returned))}:build")


def test_a_module_that_wants_larger_images_is_tried_later(written) -> None:
    network = load_python(f"{written('def build(): return nn.Sequential(nn.Conv2d(3, 2, 65, stride=2))')}:build")
    assert network.classes is None
    assert network.predict(image(96, 96)).logits.shape == (2, 2, 16, 16)
    assert (network.classes, network.stride) == (2, 6)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nets", "expected python:package.module:factory, got python:nets"),
        ("nets:", "expected python:package.module:factory"),
        ("no_such_module_here:build", "no module is called 'no_such_module_here', neither in"),
        ("torch.no_such_part:build", "no module is called 'torch.no_such_part'"),
        ("torch.nn:no_such_class", "has no 'no_such_class'"),
        ("torch:float32", "torch:float32 is dtype, expected a class or function"),
        ("torch.nn:Conv2d", "torch.nn:Conv2d is called without arguments and failed: TypeError"),
        ("builtins:dict", "builtins:dict made dict, expected an nn.Module"),
    ],
)
def test_wrong_sources_say_what_is_wrong(source, message) -> None:
    with pytest.raises(InputError, match=message):
        SCHEMES["python"](source)


def test_modules_that_cannot_be_imported(written) -> None:
    with pytest.raises(InputError, match="needs 'no_such_dependency', which is not installed"):
        load_python(f"{written('import no_such_dependency')}:build")


def test_modules_that_fail_while_imported(written) -> None:
    with pytest.raises(InputError, match=r"importing module .* failed: ZeroDivisionError"):
        load_python(f"{written('1 / 0')}:build")


def test_gradients_reach_the_module() -> None:
    network = UserNetwork(nn.Conv2d(3, 2, 1))
    network(image()).sum().backward()
    assert network.module.weight.grad is not None
