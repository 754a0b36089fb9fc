"""What every network around another network promises; a new one is covered as soon as its file is there."""

import copy

import pytest
import torch

from strays.errors import InputError
from strays.networks.base import NETWORKS
from strays.networks.erfnet import ERFNet
from strays.networks.extended import Extension, extend
from strays.networks.passes import dropout_switched_on
from strays.networks.wrapper import WRAPPERS, NetworkWrapper
from strays.specs import parsed_settings
from toy_networks import Toy, image, looked_at

SETTINGS = {"sliding-window": {"window": 16, "stride": 8}, "multi-scale": {"scales": "1/2+1"}, "mirrored": {}}
"""Settings with which every wrapper has something to do on images of 24x32."""


@pytest.fixture(params=list(WRAPPERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def around(name: str, base) -> NetworkWrapper:
    return WRAPPERS[name](base, **SETTINGS[name])


def test_the_wrappers_are_found_by_name_and_are_no_networks() -> None:
    assert set(WRAPPERS) == set(SETTINGS)
    assert not set(WRAPPERS) & set(NETWORKS)


def test_the_card_is_complete(name: str) -> None:
    card = WRAPPERS[name].card
    assert card.title
    assert card.summary.endswith(".")
    assert card.url.startswith("https://")
    assert card.paper
    assert 2012 <= (card.year or 0) <= 2100
    assert f"{name}(MODEL" in card.notes
    assert "Args:\n" in (WRAPPERS[name].__doc__ or "")


def test_it_says_what_it_is_around_and_how(name: str) -> None:
    network = around(name, Toy())
    assert network.name == name
    stated = network.around("enet@w").removeprefix(f"{name}(enet@w").removesuffix(")").removeprefix(",")
    assert parsed_settings(name, WRAPPERS[name], stated.split(",")) == network.settings()
    assert SETTINGS[name].items() <= network.settings().items()


def test_the_facts_are_those_of_the_base(name: str) -> None:
    base = Toy(outlier=True)
    network = around(name, base)
    assert network.base is base
    assert network.configuration == base.configuration
    assert network.weights_sha256() == base.weights_sha256()
    assert network.has_outlier_head
    assert not around(name, Toy()).has_outlier_head
    assert set(network.tap_modules) == set(base.tap_modules)
    assert not network.training
    assert network.train().base.training


@torch.no_grad()
def test_every_way_to_run_it_gives_the_same(name: str) -> None:
    network, seen = around(name, Toy(outlier=True)), image(24, 32)
    outputs = network.outputs(seen)
    assert set(outputs) == {"logits", "outlier_logits"}
    prediction = network.predict(seen, taps=network.tap_modules)
    for logits in (network(seen), network.logits(network.normalization(seen)), prediction.logits):
        assert torch.equal(logits, outputs["logits"])
    assert torch.equal(prediction.outlier_logits, outputs["outlier_logits"])
    assert set(prediction.features) == {"encoder", "decoder"}
    assert torch.equal(seen, image(24, 32))


def test_it_is_another_look(name: str) -> None:
    """Each wrapper changes something: a test that passes for the plain network would tell nothing."""
    seen = image(24, 32)
    wrapped, plain = looked_at(around(name, Toy()), seen)["logits"], looked_at(Toy(), seen)["logits"]
    assert wrapped.shape != plain.shape or abs(wrapped - plain).max() > 0.01


@torch.no_grad()
def test_images_of_a_batch_do_not_touch_each_other(name: str) -> None:
    network, seen = around(name, Toy(outlier=True)), image(24, 32)
    both = looked_at(network, seen, ("encoder", "decoder"))
    for index in range(2):
        for key, maps in looked_at(network, seen[index : index + 1], ("encoder", "decoder")).items():
            torch.testing.assert_close(torch.from_numpy(maps[0]), torch.from_numpy(both[key][index]))


def test_gradients_reach_the_image(name: str) -> None:
    seen = image(24, 32).requires_grad_()
    around(name, Toy()).predict(seen).logits[:, 0].sum().backward()
    assert seen.grad is not None
    assert (seen.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_masks_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name} takes means of maps.*mask transformer.*flipped\(DETECTOR\)"):
        around(name, Toy(masks=True))(image(24, 32))


def test_unknown_taps_are_refused(name: str) -> None:
    network = around(name, Toy())
    with pytest.raises(InputError, match="has no tap 'neck'; its taps: encoder, decoder"):
        network.check_taps(["neck"])
    with pytest.raises(InputError, match="has no tap 'neck'; its taps: encoder, decoder"):
        network.predict(image(24, 32), taps=["neck"])
    assert not any(one._forward_hooks for one in network.modules())


@torch.no_grad()
def test_sampled_passes_are_those_of_plain_dropout(name: str) -> None:
    """The first pass is recorded and the second replayed: both as if nothing was kept."""
    network, seen = around(name, Toy(dropout=0.5)), image(24, 32)
    passes = network.predict(seen).passes
    for seed in (1, 2, 1):
        with torch.random.fork_rng([]), dropout_switched_on(network):
            torch.manual_seed(seed)
            expected = network(seen)
        assert torch.equal(passes.sampled(seed).logits, expected)
    assert not torch.equal(passes.sampled(1).logits, passes.sampled(2).logits)


@torch.no_grad()
def test_it_can_be_exported(name: str) -> None:
    network, seen = around(name, Toy()), image(24, 32, count=1)
    program = torch.export.export(network, (seen,))
    torch.testing.assert_close(program.module()(seen), network(seen))


@torch.no_grad()
def test_around_an_extended_network(name: str) -> None:
    torch.manual_seed(0)
    base = extend(ERFNet(classes=3).eval(), "erfnet", Extension(outlier_head=True, extra_channel=True))
    prediction = around(name, base).predict(image(24, 32).float(), taps=["decoder"])
    assert prediction.logits.shape[:2] == (2, 4)
    assert prediction.outlier_logits.shape[:2] == (2, 2)
    assert prediction.features["decoder"].isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("inner", list(SETTINGS))
def test_one_around_another(name: str, inner: str) -> None:
    network, seen = around(name, around(inner, Toy(outlier=True))), image(32, 48)
    maps = looked_at(network, seen, ("encoder",))
    assert set(maps) == {"logits", "outlier_logits", "encoder"}
    assert network.around(inner) == f"{name}({inner}{network.around('')[len(name) + 1 :]}"
    assert network.weights_sha256() == Toy(outlier=True).weights_sha256()
    copied = copy.deepcopy(network)
    assert (looked_at(copied, seen)["logits"] == maps["logits"]).all()
