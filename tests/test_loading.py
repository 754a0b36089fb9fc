"""Models from strings: every kind, and what a wrong one gets told."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import nn

from strays import loading
from strays.errors import InputError, WeightsError
from strays.loading import DEFAULT_MODEL, builtin_models, choose_device, load_model
from strays.model import MODEL_FILE, Model
from strays.networks.enet import ENet
from strays.networks.erfnet import ERFNet
from strays.networks.swiftnet import SwiftNetMobileNetV2
from strays.networks.weights import file_sha256
from strays.taxonomy import CAMVID, CITYSCAPES, CITYSCAPES_VOID


def random_enet(classes: int) -> ENet:
    torch.manual_seed(0)
    return ENet(classes).eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of an ENet with 20 classes, as its authors save them."""
    path = tmp_path_factory.mktemp("weights") / "city.pth"
    torch.save({"state_dict": {f"module.{key}": one for key, one in random_enet(20).state_dict().items()}}, path)
    return path


@pytest.fixture
def folder(weights: Path, tmp_path: Path) -> Path:
    return load_model(f"enet@{weights}").save(tmp_path / "model")


@dataclass
class Made:
    """A module of somebody's own code under a name of its own."""

    channels: int = 5
    attributes: dict[str, object] = field(default_factory=dict)

    def __call__(self) -> nn.Module:
        module = nn.Conv2d(3, self.channels, 1)
        for name, value in self.attributes.items():
            setattr(module, name, value)
        return module


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Made:
    """What ``python:strays_tests_own:make`` makes."""
    made = Made()
    module = type(sys)("strays_tests_own")
    module.make = made  # type: ignore[attr-defined]
    module.known = lambda: random_enet(13)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def test_a_network_and_its_weights(weights: Path) -> None:
    model = load_model(f"enet@{weights}", device="cpu")
    assert model.name == "enet@city"
    assert model.source == f"enet@{weights}"
    assert model.taxonomy == CITYSCAPES_VOID
    assert model.facts.network == "enet"
    assert model.facts.configuration == {"classes": 20}
    assert not model.network.training
    assert all(torch.equal(one, model.network.state_dict()[key]) for key, one in random_enet(20).state_dict().items())


@pytest.mark.parametrize(("classes", "taxonomy"), [(19, "cityscapes"), (11, "camvid"), (13, "streethazards")])
def test_the_taxonomy_is_guessed_by_the_channels(classes: int, taxonomy: str, tmp_path: Path) -> None:
    torch.save(random_enet(classes).state_dict(), tmp_path / "w.pth")
    assert load_model(f"enet@{tmp_path / 'w.pth'}").taxonomy.name == taxonomy


def test_other_channels_are_numbered(tmp_path: Path) -> None:
    torch.save(random_enet(3).state_dict(), tmp_path / "w.pth")
    found = load_model(f"enet@{tmp_path / 'w.pth'}").taxonomy
    assert found.names == ("class 0", "class 1", "class 2")
    assert len({one.colour for one in found.classes}) == 3
    assert found.void is None


def test_a_folder(folder: Path, weights: Path) -> None:
    model = load_model(str(folder))
    assert model.name == "enet@city"
    assert model.source == str(folder)
    assert model.sha256() == load_model(f"enet@{weights}").sha256()


def test_a_folder_may_have_an_at_in_its_path(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "somebody@company" / "run"
    home.parent.mkdir()
    folder.rename(home)
    assert load_model(str(home)).name == "enet@city"


def test_a_file_may_have_an_at_in_its_path(weights: Path, tmp_path: Path) -> None:
    home = tmp_path / "me@home"
    home.mkdir()
    (home / "w.pth").write_bytes(weights.read_bytes())
    assert load_model(f"enet@{home / 'w.pth'}").name == "enet@w"


def test_the_home_folder_may_be_a_tilde(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(weights.parent))
    assert load_model("enet@~/city.pth").name == "enet@city"


def test_a_checkpoint_tells_its_encoder(tmp_path: Path) -> None:
    torch.save(SwiftNetMobileNetV2(11).state_dict(), tmp_path / "w.pth")
    model = load_model(f"swiftnet-rn18@{tmp_path / 'w.pth'}")
    assert model.facts.configuration == {"classes": 11, "encoder": "mobilenet-v2"}


def test_default_is_the_model_that_the_package_carries() -> None:
    if DEFAULT_MODEL not in builtin_models():
        pytest.skip("the package carries no model yet")
    model = load_model()
    assert model.name == DEFAULT_MODEL == load_model(DEFAULT_MODEL).name
    assert model.source == "default"
    assert model.taxonomy.names == (*CAMVID.names, "void")
    assert builtin_models()[DEFAULT_MODEL] == model.facts


def test_a_network_is_laid_out_in_memory_as_it_is_fastest(weights: Path) -> None:
    def channels_last(spec: str) -> bool:
        kernels = [one for one in load_model(spec).network.parameters() if one.ndim == 4 and 1 not in one.shape]
        return all(one.is_contiguous(memory_format=torch.channels_last) for one in kernels)

    assert channels_last("default")
    assert channels_last("mirrored(default)")
    assert not channels_last(f"enet@{weights}")


def test_built_in_models_are_listed_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_BUILTIN", folder.parent)
    assert set(builtin_models()) == {"enet@city"}
    assert load_model("model").name == "enet@city"


def test_a_wrapper_keeps_the_facts_and_is_named(weights: Path) -> None:
    spec = f" sliding-window( enet@{weights} , window=32, stride=24 )"
    plain, model = load_model(f"enet@{weights}"), load_model(spec)
    assert model.name == "sliding-window(enet@city,window=32,stride=24)"
    assert model.source == spec
    told = {"name": model.name, "network": "sliding-window(enet,window=32,stride=24)"}
    assert model.facts == plain.facts.model_copy(update=told)
    assert model.sha256() == plain.sha256()
    assert not model.network.training
    seen = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        windows = [plain.predict(seen[..., left : left + 32]).logits for left in (0, 8)]
        found = model.predict(seen).logits
    torch.testing.assert_close(found[..., :8], windows[0][..., :8])
    torch.testing.assert_close(found[..., 8:32], (windows[0][..., 8:] + windows[1][..., :24]) / 2)


def test_wrappers_state_their_defaults_and_stand_around_each_other(folder: Path) -> None:
    assert load_model(f"sliding-window({folder})").name == "sliding-window(enet@city,window=768,stride=512)"
    model = load_model(f"mirrored(multi-scale(sliding-window({folder},64,48),scales=1/2+1,average=probabilities))")
    inner = "sliding-window(enet@city,window=64,stride=48)"
    assert model.name == f"mirrored(multi-scale({inner},scales=1/2+1,average=probabilities))"
    assert model.facts.network == model.name.replace("@city", "")
    assert model.facts.configuration == {"classes": 20}
    assert model.sha256() == load_model(str(folder)).sha256()


def test_what_is_wrapped_may_have_equals_signs_and_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = folder.parent / "rate=0.1" / "run(2)"
    home.parent.mkdir()
    folder.rename(home)
    assert load_model(f"mirrored({home})").name == load_model(f"mirrored(base={home})").name == "mirrored(enet@city)"
    asked: list[str] = []
    monkeypatch.setitem(loading.SCHEMES._found, "hf", lambda rest: asked.append(rest) or random_enet(19))
    model = load_model("sliding-window(hf:ORG/ID,fit=pad,window=64,stride=64)")
    assert asked == ["ORG/ID,fit=pad"]
    assert model.name == "sliding-window(hf:ORG/ID,fit=pad,window=64,stride=64)"


def test_a_wrapped_model_takes_another_taxonomy(weights: Path) -> None:
    assert load_model(f"mirrored(enet@{weights})", taxonomy="cityscapes-void").taxonomy == CITYSCAPES_VOID
    with pytest.raises(InputError, match=r"mirrored\(enet@city\) has 20 channels, but the taxonomy cityscapes has 19"):
        load_model(f"mirrored(enet@{weights})", taxonomy="cityscapes")


def test_a_wrapped_model_is_no_model_directory(weights: Path, tmp_path: Path) -> None:
    """The folder holds the network; how often it looks at an image stays in the model string, where it is seen."""
    with pytest.raises(InputError, match=r"mirrored\(enet@city\) is a way to run a model: save that one"):
        load_model(f"mirrored(enet@{weights})").save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_python_of_your_own(own: Made) -> None:
    model = load_model("python:strays_tests_own:make")
    assert model.name == "python:strays_tests_own:make"
    assert len(model.taxonomy) == 5
    assert model.predict(torch.rand(1, 3, 4, 6)).logits.shape == (1, 5, 4, 6)


def test_python_that_makes_a_network_of_ours_can_be_saved(own: Made, tmp_path: Path) -> None:
    model = load_model("python:strays_tests_own:known")
    assert model.facts.network == "enet"
    assert load_model(str(model.save(tmp_path))).sha256() == model.sha256()


def test_python_with_a_taxonomy_that_does_not_fit(own: Made) -> None:
    own.attributes["taxonomy"] = "camvid"
    with pytest.raises(InputError, match="has 5 channels, but the taxonomy camvid has 11 classes: choose another"):
        load_model("python:strays_tests_own:make")
    own.channels = 11
    assert load_model("python:strays_tests_own:make").taxonomy == CAMVID


def test_more_channels_than_a_byte_can_number(own: Made) -> None:
    own.channels = 256
    with pytest.raises(InputError, match="has 256 channels, expected at most 255"):
        load_model("python:strays_tests_own:make")


def test_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Concat", ["image"] * 4, ["logits"], axis=1)],
        "network",
        [onnx.helper.make_tensor_value_info("image", floats, ["n", 3, "h", "w"])],
        [onnx.helper.make_tensor_value_info("logits", floats, ["n", 12, "h", "w"])],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "net.onnx")
    model = load_model(f"onnx:{tmp_path / 'net.onnx'}")
    assert len(model.taxonomy) == 12
    assert model.device == torch.device("cpu")
    with pytest.raises(InputError, match="cannot be saved as a model directory"):
        model.save(tmp_path / "out")


def test_a_taxonomy_by_name_or_file(weights: Path, tmp_path: Path) -> None:
    plain = CITYSCAPES_VOID.model_copy(update={"name": "mine", "void": None})
    (tmp_path / "mine.json").write_text(plain.model_dump_json())
    model = load_model(f"enet@{weights}", taxonomy=str(tmp_path / "mine.json"))
    assert model.taxonomy == plain
    assert model.source == f"enet@{weights}"
    assert load_model(f"enet@{weights}", taxonomy="cityscapes-void").taxonomy == CITYSCAPES_VOID


def test_a_taxonomy_that_does_not_fit(weights: Path) -> None:
    told = "enet@city has 20 channels, but the taxonomy cityscapes has 19 classes: choose another"
    with pytest.raises(InputError, match=told):
        load_model(f"enet@{weights}", taxonomy=CITYSCAPES.name)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("swiftnet-mnv2-camvit", r"no model is called 'swiftnet-mnv2-camvit'; did you mean 'swiftnet-mnv2"),
        ("defalt", r"did you mean 'default'\? \(`strays models` lists them\)"),
        ("zzzz", r"no model is called 'zzzz'; known: default, .*enet@FILE.*hf:\.\.\..*python:\.\.\."),
        ("enet", r"enet is a network without weights: name them as enet@FILE"),
        ("ennet@w.pth", r"no network is called 'ennet'; did you mean 'enet'\? \(`strays networks` lists them\)"),
        ("enet@", r"no weights file at .*: check the path behind the @"),
        ("enet@missing.pth", r"no weights file at missing.pth: check the path behind the @"),
        ("python:nothing", r"expected python:package.module:factory"),
        ("onnx:missing.onnx", r"no ONNX file at missing.onnx"),
        ("hf:nothing", r"hf:nothing is neither a folder that exists nor of the form hf:ORG/ID"),
        ("mirrored", r"no model is called 'mirrored'; did you mean 'mirrored\(MODEL\)'"),
        ("mirored(default)", r"no network wrapper is called 'mirored'; did you mean 'mirrored'"),
        ("runs/city(2)", r"no model is called 'runs/city\(2\)'"),
        ("mirrored(default", r"'mirrored\(default' has no closing bracket at its end: write mirrored\(...\)"),
        ("mirrored()", r"'mirrored\(\)' names 0 models, expected one: write mirrored\(MODEL\)"),
        ("mirrored(default,base=default)", r"names 2 models, expected one: write mirrored\(MODEL\)"),
        ("mirrored(default,enet@w.pth)", r"mirrored takes at most 1 values, got 2: default, enet@w.pth"),
        ("mirrored(sigma=2)", r"mirrored has no setting 'sigma'; it has none"),
        ("sliding-window(default,windw=512)", r"sliding-window has no setting 'windw'; did you mean 'window'"),
        ("sliding-window(default,window=wide)", r"sliding-window: window is 'wide': Input should be a valid integer"),
        ("sliding-window(default,window=64)", r"window is 64 and stride 512, expected a window of at least 1 pixel"),
        ("multi-scale(default,average=scores)", r"average is 'scores': Input should be 'logits' or 'probabilities'"),
        ("mirrored(multi-scale(defalt))", r"no model is called 'defalt'; did you mean 'default'"),
    ],
)
def test_a_wrong_string_gets_a_hint(spec: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told):
        load_model(spec)


def test_a_file_without_its_network(weights: Path) -> None:
    with pytest.raises(InputError, match=f"{weights} is a file: say which network .*, as NETWORK@{weights}"):
        load_model(str(weights))


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} is not a model directory: it holds no {MODEL_FILE}"):
        load_model(str(tmp_path))


def test_weights_of_another_network_name_the_keys(tmp_path: Path) -> None:
    torch.save(ERFNet(20).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"another network than ENet: \d+ missing: .*initial_block.*unexpected: enc"):
        load_model(f"enet@{tmp_path / 'w.pth'}")


def test_a_wrong_device_is_told_before_anything_is_read() -> None:
    with pytest.raises(InputError, match="no device 'cuda:99' here: use --device cpu"):
        load_model("no such model", device="cuda:99")


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for wrong in ("", "gpu", "cuda:x"):
        with pytest.raises(InputError, match=f"no device '{wrong}' here"):
            choose_device(wrong)


@pytest.mark.filterwarnings("ignore:.* has no preprocessor_config.json")
def test_a_hugging_face_network_can_be_saved_as_a_model_directory(tmp_path: Path) -> None:
    from strays.networks.huggingface import HuggingFaceNetwork

    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    config = json.dumps({"model_type": "segformer", "decoder_hidden_size": 16, **sizes})
    HuggingFaceNetwork(classes=11, config=config).model.save_pretrained(tmp_path / "theirs")
    model = load_model(f"hf:{tmp_path / 'theirs'}")
    assert model.facts.network == "huggingface"
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    loaded = load_model(str(model.save(tmp_path / "ours")))
    with torch.no_grad():
        assert torch.equal(loaded.predict(image).logits, model.predict(image).logits)


def test_the_checkpoints_at_hand_load(shared: Path) -> None:
    found = sorted((shared / "weights").glob("e[nr]*.pth"))
    if not found:
        pytest.skip("there are no checkpoints in ../shared/weights")
    for path in found:
        model = load_model(f"{path.name.partition('_')[0]}@{path}")
        assert isinstance(model, Model)
        assert model.taxonomy == CITYSCAPES_VOID
        assert len(file_sha256(path)) == 64
