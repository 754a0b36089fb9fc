import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from strays.errors import InputError, WeightsError
from strays.networks.weights import file_sha256, load_state, read_weights


class _Trap:
    """An object whose unpickling creates a file: what a malicious weights file does."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def _small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def _same(first, second):
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def state():
    torch.manual_seed(0)
    return _small().state_dict()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_saved_state_dict_comes_back(tmp_path, state, legacy):
    torch.save(state, tmp_path / "weights.pth", _use_new_zipfile_serialization=not legacy)
    assert _same(read_weights(tmp_path / "weights.pth"), state)


def test_safetensors_come_back(tmp_path, state):
    save_file(state, tmp_path / "weights.safetensors")
    assert _same(read_weights(tmp_path / "weights.safetensors"), state)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "network", "net"])
def test_a_state_dict_inside_a_training_checkpoint_is_found(tmp_path, state, key):
    torch.save({key: state, "epoch": 3}, tmp_path / "checkpoint.pth")
    assert _same(read_weights(tmp_path / "checkpoint.pth"), state)


def test_the_prefix_of_data_parallel_goes(tmp_path, state):
    torch.save(nn.DataParallel(_small()).state_dict(), tmp_path / "weights.pth")
    assert set(read_weights(tmp_path / "weights.pth")) == set(state)
    load_state(_small(), read_weights(tmp_path / "weights.pth"), "weights.pth")


def test_a_module_called_module_keeps_its_name(tmp_path):
    state = {"module.weight": torch.ones(1), "head.weight": torch.ones(1)}
    torch.save(state, tmp_path / "weights.pth")
    assert set(read_weights(tmp_path / "weights.pth")) == set(state)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"no weights file at .*gone\.pth: check the path"):
        read_weights(tmp_path / "gone.pth")


def test_a_folder_is_no_weights_file(tmp_path):
    with pytest.raises(WeightsError, match="no weights file"):
        read_weights(tmp_path)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_truncated_file_is_named(tmp_path, state, kind, share):
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match=path.name.replace(".", r"\.")):
        read_weights(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damage_anywhere_is_a_weights_error_or_goes_unseen(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(2), "b": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    refused = 0
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x2B]) + content[place + 1 :])
        try:
            read_weights(path)
        except WeightsError:
            refused += 1
    assert refused > 50


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["pickle", "torch", "torch-legacy", "inside"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, state, how):
    path, target = tmp_path / "weights.pth", tmp_path / "executed"
    trap = _Trap(target)
    if how == "pickle":
        path.write_bytes(pickle.dumps(trap))
    else:
        content = {**state, "extra": trap} if how == "inside" else trap
        torch.save(content, path, _use_new_zipfile_serialization=how != "torch-legacy")
    with pytest.raises(WeightsError, match="refused, nothing in it was run"):
        read_weights(path)
    assert not target.exists()


def test_the_trap_would_spring_if_it_were_unpickled(tmp_path):
    pickle.loads(pickle.dumps(_Trap(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


def test_a_pickled_module_is_refused(tmp_path):
    torch.save(_small(), tmp_path / "network.pth")
    with pytest.raises(WeightsError, match=r"save a state dict of tensors"):
        read_weights(tmp_path / "network.pth")


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "weights.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        read_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.ones(1), "epoch": 3, "rate": 0.1}, "more than tensors by name: epoch, rate; save only"),
        ({0: torch.ones(1)}, "more than tensors by name: 0"),
        ([torch.ones(1)], "holds list, expected tensors by name"),
        (torch.ones(1), "holds Tensor, expected tensors by name"),
        ({}, "expected tensors by name"),
        ({f"k{number}": number for number in range(9)}, "k0, k1, k2, k3, k4 and 4 more"),
    ],
)
def test_anything_but_tensors_by_name_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / "weights.pth")


def test_load_state_sets_every_tensor(state):
    network = _small()
    load_state(network, state, "weights.pth")
    assert _same(network.state_dict(), state)


def test_load_state_does_without_batch_counters(state):
    state = {name: value for name, value in state.items() if "num_batches_tracked" not in name}
    load_state(_small(), state, "weights.pth")


def test_weights_of_another_network_name_what_differs(state):
    state["head.weight"] = state.pop("0.bias")
    state["0.weight"] = torch.zeros(4, 3, 1, 1)
    network = _small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_state(network, state, "other.pth")
    message = str(caught.value)
    assert message.startswith("other.pth holds the weights of another network than Sequential")
    assert "1 missing: 0.bias" in message
    assert "1 unexpected: head.weight" in message
    assert "1 of another shape: 0.weight (4, 3, 1, 1) instead of (4, 3, 3, 3)" in message
    assert _same(network.state_dict(), before)


def test_a_weights_error_is_an_input_error():
    assert issubclass(WeightsError, InputError)


def test_the_hash_is_that_of_the_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "weights.pth").write_bytes(content)
    assert file_sha256(tmp_path / "weights.pth") == hashlib.sha256(content).hexdigest()
