"""Networks in TorchScript files, against the modules that they were made of."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from strays.errors import InputError, WeightsError
from strays.loading import load_model
from strays.networks.base import SCHEMES
from strays.networks.torchscript import TorchScriptNetwork
from strays.scoring import Scorer
from strays.taxonomy import CAMVID
from toy_networks import image

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
NORMALIZATION = {"mean": [0.5, 0.25, 0], "std": [1, 2, 4]}


class InDictionary(nn.Module):
    """Logits beside something else."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, rgb: Tensor) -> dict[str, Tensor]:
        return {"aux": rgb, "out": self.inner(rgb)}


class Labels(nn.Module):
    """A network that keeps its logits to itself."""

    def forward(self, rgb: Tensor) -> Tensor:
        return rgb.argmax(1)


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 11, 1)).eval()


def scripted(path: Path, net: nn.Module, **extra: str) -> Path:
    names = {f"strays.{name}": text for name, text in extra.items()}
    torch.jit.save(torch.jit.script(net), path, _extra_files=names)
    return path


def pixels() -> Tensor:
    return image(32, 48).float()


@torch.no_grad()
@pytest.mark.parametrize("how", ["scripted", "traced", "dictionary"])
def test_it_gives_the_logits_of_its_module(tmp_path: Path, how: str) -> None:
    net, path = module(), tmp_path / "net.pt"
    if how == "traced":
        torch.jit.trace(net, pixels()).save(path)
    else:
        scripted(path, net if how == "scripted" else InDictionary(net))
    network = SCHEMES["torchscript"](str(path))
    for rgb in (pixels(), pixels()[:1, :, :20, :36]):
        torch.testing.assert_close(network(rgb), net(rgb))
    assert (network.classes, network.stride, network.taxonomy(), network.tap_modules) == (11, 2, None, {})


@torch.no_grad()
def test_what_the_archive_tells_is_honoured(tmp_path: Path) -> None:
    net = module()
    extra = {"normalization": json.dumps(NORMALIZATION), "taxonomy": CAMVID.model_dump_json()}
    network = TorchScriptNetwork(scripted(tmp_path / "net.pt", net, **extra))
    mean, std = (torch.tensor(NORMALIZATION[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(network(pixels()), net((pixels() - mean) / std))
    assert network.taxonomy() == CAMVID


def test_it_is_scored_like_any_other_and_has_gradients(tmp_path: Path) -> None:
    path = scripted(tmp_path / "net.pt", module())
    model = load_model(f"torchscript:{path}", taxonomy="camvid", device="cpu")
    rgb = (pixels()[0] * 255).byte().permute(1, 2, 0).numpy()
    scores = Scorer.build(model, ["energy", "odin"])(rgb).scores
    with torch.no_grad():
        logits = module()(torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255)
    large = nn.functional.interpolate(logits, (32, 48), mode="bilinear")
    torch.testing.assert_close(torch.from_numpy(scores["energy"]), -torch.logsumexp(large, 1)[0])
    assert scores["odin"].shape == (32, 48)


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    path = scripted(tmp_path / "net.pt", module())
    assert TorchScriptNetwork(path).weights_sha256() == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"taxonomy": "[]"}, "strays.taxonomy in .*net.pt is not a taxonomy"),
        ({"normalization": "[]"}, "expected a normalization like"),
    ],
)
def test_what_the_archive_tells_is_checked(tmp_path: Path, extra: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TorchScriptNetwork(scripted(tmp_path / "net.pt", module(), **extra))


def test_what_is_no_network_in_torchscript_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no TorchScript file at .*: check the path behind torchscript:"):
        load_model(f"torchscript:{tmp_path / 'none.pt'}")
    torch.save(module().state_dict(), tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("no archive")
    for name in ("weights.pt", "text.pt"):
        with pytest.raises(InputError, match=f"{name} is not a TorchScript file .*: write it with torch.jit.save"):
            load_model(f"torchscript:{tmp_path / name}")
    with pytest.raises(InputError, match="return what argmax was taken of"):
        load_model(f"torchscript:{scripted(tmp_path / 'labels.pt', Labels())}")


def test_as_weights_it_is_told_what_it_is(tmp_path: Path) -> None:
    path = scripted(tmp_path / "net.pt", module())
    with pytest.raises(WeightsError, match=f"is a whole network in TorchScript: write --model torchscript:{path}"):
        load_model(f"enet@{path}")
    with pytest.raises(InputError, match=f"onnx:{path} or torchscript:{path}"):
        load_model(str(path))
