"""Model directories: bit for bit, in half precision, on the hub's mixin, and what is said about broken ones."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from strays.cards import Card
from strays.errors import InputError, WeightsError
from strays.loading import load_model
from strays.model import MODEL_FILE, WEIGHTS_FILE, Model, ModelFacts
from strays.networks.enet import ENet
from strays.taxonomy import CAMVID, CITYSCAPES, CITYSCAPES_VOID, Taxonomy

Break = Callable[[dict[str, object]], None]


def make(taxonomy: Taxonomy = CAMVID, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    network = ENet(classes=len(taxonomy)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.num_batches_tracked.fill_(7)
    facts = ModelFacts(
        name="enet-test",
        network="enet",
        configuration=network.configuration,
        taxonomy=taxonomy,
        mean=network.normalization.mean,
        std=network.normalization.std,
        recipe="closed-set",
        detector="energy",
        card=Card(title="A test", summary="Nothing but a test.", licence="CC0", notes="Read this."),
        training={"settings": {"seed": 3}},
    )
    return Model(network, facts, source="nowhere")


@pytest.fixture(scope="module")
def model() -> Model:
    return make()


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    return model.save(tmp_path / "deep" / "model")


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))


def test_a_folder_holds_two_files(folder: Path) -> None:
    assert sorted(one.name for one in folder.iterdir()) == [MODEL_FILE, WEIGHTS_FILE]


@torch.no_grad()
def test_what_is_saved_comes_back_bit_for_bit(model: Model, folder: Path, image: Tensor) -> None:
    loaded = Model.load(folder)
    before, after = model.network.state_dict(), loaded.network.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)
    assert loaded.facts == model.facts
    assert loaded.source == str(folder)
    assert not loaded.network.training
    assert torch.equal(loaded.predict(image).logits, model.predict(image).logits)


def test_the_same_model_gives_the_same_bytes(model: Model, folder: Path, tmp_path: Path) -> None:
    again = Model.load(folder).save(tmp_path / "again")
    for name in (MODEL_FILE, WEIGHTS_FILE):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


@torch.no_grad()
def test_half_precision_is_stored_small_and_loaded_as_float32(model: Model, tmp_path: Path, image: Tensor) -> None:
    folder = model.save(tmp_path, dtype=torch.float16)
    stored = load_file(folder / WEIGHTS_FILE)
    assert {one.dtype for one in stored.values()} == {torch.float16, torch.int64}
    loaded = Model.load(folder).network.state_dict()
    for key, value in model.network.state_dict().items():
        assert loaded[key].dtype == value.dtype
        torch.testing.assert_close(loaded[key], value, rtol=1e-3, atol=1e-3)
    close = Model.load(folder).predict(image).logits - model.predict(image).logits
    assert close.abs().max() < 0.05


def test_a_normalization_is_kept(model: Model, folder: Path) -> None:
    told = json.loads((folder / MODEL_FILE).read_text())
    told["mean"], told["std"] = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    (folder / MODEL_FILE).write_text(json.dumps(told))
    loaded = Model.load(folder).network.normalization
    assert loaded.mean == (0.1, 0.2, 0.3)
    assert loaded.std == (0.5, 0.6, 0.7)


def test_the_hash_is_that_of_the_weights_alone(model: Model, folder: Path) -> None:
    digest = model.sha256()
    assert len(digest) == 64
    assert digest == make().sha256() == Model.load(folder).sha256()
    assert digest == Model(model.network, model.facts.model_copy(update={"name": "other"})).sha256()
    assert digest != make(seed=1).sha256()


def test_one_changed_weight_changes_the_hash(model: Model) -> None:
    other = make()
    with torch.no_grad():
        parameter = list(other.network.parameters())[-1].view(-1)
        parameter[0] = torch.nextafter(parameter[0], torch.tensor(9.0))
    assert other.sha256() != model.sha256()


def test_the_hash_does_not_depend_on_the_layout_in_memory(model: Model) -> None:
    other = make()
    other.network.to(memory_format=torch.channels_last)
    assert other.sha256() == model.sha256()


@torch.no_grad()
def test_predictions_know_the_void_channel_of_the_taxonomy(model: Model, image: Tensor) -> None:
    assert model.predict(image).void is None
    prediction = make(CITYSCAPES_VOID).predict(image, size=(48, 64))
    assert (prediction.void, prediction.size) == (19, (48, 64))


def test_to_moves_and_switches_to_evaluation() -> None:
    model = make()
    model.network.train()
    assert model.to("cpu") is model
    assert not model.network.training
    assert model.device == torch.device("cpu")


def test_a_model_is_told_in_one_line(model: Model) -> None:
    assert repr(model) == "Model('enet-test', enet, 11 classes, energy, cpu)"


def test_the_hub_mixin_keeps_the_same_two_files_and_a_page(model: Model, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["README.md", MODEL_FILE, WEIGHTS_FILE]
    loaded = Model.from_pretrained(str(tmp_path))
    assert loaded.sha256() == model.sha256()
    assert loaded.facts == model.facts
    assert Model.from_pretrained(tmp_path).facts == model.facts
    assert load_model(f"hf:{tmp_path}").facts == model.facts


def test_a_model_on_the_hub_is_loaded_by_its_id(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(name: str, file: str) -> str:
        assert name == "us/ours"
        return str(tmp_path / file)

    model.save_pretrained(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("strays.loading.hf_hub_download", fetched)
    loaded = load_model("hf:us/ours", device="cpu")
    assert (loaded.sha256(), loaded.facts, loaded.source) == (model.sha256(), model.facts, "hf:us/ours")


def test_the_page_on_the_hub_tells_the_card_and_no_local_path(model: Model, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("---\nlibrary_name: strays\n")
    for told in ("# A test", "Nothing but a test.", "Read this.", "Licence: CC0", "Model.from_pretrained("):
        assert told in page
    assert "nowhere" not in page
    assert "None" not in page
    assert "More Information Needed" not in page


def test_what_cannot_be_built_by_name_is_not_saved(model: Model, tmp_path: Path) -> None:
    other = Model(model.network, model.facts.model_copy(update={"network": "python"}))
    with pytest.raises(InputError, match="enet-test cannot be saved as a model directory"):
        other.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_classes_and_taxonomy_must_agree(model: Model) -> None:
    facts = model.facts.model_dump() | {"taxonomy": CITYSCAPES}
    with pytest.raises(ValueError, match="the network has 11 classes, the taxonomy 19"):
        ModelFacts.model_validate(facts)


def drop(key: str) -> Break:
    def broken(facts: dict[str, object]) -> None:
        del facts[key]

    return broken


def put(key: str, value: object) -> Break:
    def broken(facts: dict[str, object]) -> None:
        facts[key] = value

    return broken


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (drop("network"), r"does not describe a model: network: Field required"),
        (put("colour", "red"), r"does not describe a model: colour: Extra inputs"),
        (put("mean", [0, 0]), r"does not describe a model: mean"),
        (put("taxonomy", CITYSCAPES.model_dump()), r"the network has 11 classes, the taxonomy 19"),
        (put("network", "enett"), r"no network is called 'enett'; did you mean 'enet'\?"),
        (put("configuration", {"classes": 11, "depth": 3}), r"does not describe a model: configuration: .*'depth'"),
    ],
)
def test_a_broken_description_says_where(folder: Path, spoil: Break, told: str) -> None:
    facts = json.loads((folder / MODEL_FILE).read_text())
    spoil(facts)
    (folder / MODEL_FILE).write_text(json.dumps(facts))
    with pytest.raises(InputError, match=told):
        Model.load(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_description_that_is_no_json_is_named(folder: Path, content: bytes) -> None:
    (folder / MODEL_FILE).write_bytes(content)
    with pytest.raises(InputError, match=rf"{MODEL_FILE} does not describe a model"):
        Model.load(folder)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} is not a model directory: it holds no model.json"):
        Model.load(tmp_path)


def test_missing_and_truncated_weights_are_named(folder: Path) -> None:
    weights = folder / WEIGHTS_FILE
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=f"{weights} cannot be read as weights"):
        Model.load(folder)
    weights.unlink()
    with pytest.raises(WeightsError, match=f"no weights file at {weights}"):
        Model.load(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    facts = json.loads((folder / MODEL_FILE).read_text())
    facts["network"] = "erfnet"
    (folder / MODEL_FILE).write_text(json.dumps(facts))
    with pytest.raises(WeightsError, match=r"weights of another network than ERFNet: \d+ missing: .* unexpected"):
        Model.load(folder)


def test_a_folder_that_cannot_be_written_is_an_input_error(model: Model, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="cannot write to folder"):
        model.save(tmp_path / "taken")
