"""The flow on single vectors: exact determinants, an exact inverse, and densities that it learns."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from strays.errors import InputError
from strays.flows import FlowTraining, VectorFlow
from strays.flows.vector_flow import whitening

SMALL = FlowTraining(steps=4, width=16, epochs=3, rate=3e-3, batch=256)


def correlated(count: int, channels: int, seed: int = 0) -> Tensor:
    """Vectors of a normal distribution with mean, scales and correlations of its own."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=generator) + torch.diag(torch.arange(1.0, channels + 1))
    return torch.randn(count, channels, generator=generator) @ mixing + 3


def moons(count: int, seed: int = 0) -> Tensor:
    """Vectors on two noisy half circles, which no normal distribution describes."""
    generator = torch.Generator().manual_seed(seed)
    angle, side = torch.rand(count, generator=generator) * math.pi, torch.rand(count, generator=generator) < 0.5
    x = torch.where(side, angle.cos(), 1 - angle.cos())
    y = torch.where(side, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x, y], dim=1) + 0.1 * torch.randn(count, 2, generator=generator)


def jacobian_nll(flow: VectorFlow, vector: Tensor) -> Tensor:
    """The negative log-likelihood by the change of variables, with the Jacobian that autograd finds."""
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x[None])[0][0], vector)
    normal = torch.distributions.Normal(torch.zeros((), dtype=vector.dtype), 1.0)
    return -(normal.log_prob(flow(vector[None])[0][0]).sum() + torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_log_determinant_is_that_of_the_jacobian(channels: int) -> None:
    flow = VectorFlow().fit(correlated(600, channels), SMALL).double()
    vectors = correlated(6, channels, seed=1).double() * torch.tensor([1, 1, 1, 1, 9, -99.0]).double()[:, None]
    expected = torch.stack([jacobian_nll(flow, one) for one in vectors])
    torch.testing.assert_close(flow.nll(vectors), expected, rtol=1e-10, atol=1e-10)


def test_float32_keeps_its_digits_through_many_steps() -> None:
    flow = VectorFlow().fit(correlated(1000, 20), FlowTraining(steps=32, width=16, epochs=2, rate=1e-2))
    vectors = correlated(500, 20, seed=1)
    single = flow.nll(vectors)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), flow.double().nll(vectors.double()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 7])
def test_inverse_leads_back(channels: int) -> None:
    flow = VectorFlow().fit(correlated(600, channels), SMALL).double()
    vectors = correlated(50, channels, seed=1).double()
    torch.testing.assert_close(flow.inverse(flow(vectors)[0]), vectors, rtol=1e-9, atol=1e-9)


def test_training_moved_every_weight() -> None:
    couplings = VectorFlow().fit(moons(1000), SMALL).couplings
    assert all((each != 0).any(dim=-1).any() for each in couplings.parameters())
    assert (couplings.weight_3.abs().amax(dim=(1, 2)) > 1e-3).all()


def test_it_learns_the_density_of_a_normal_distribution() -> None:
    vectors = correlated(6000, 4)
    flow = VectorFlow().fit(vectors, FlowTraining(steps=4, width=16, epochs=2))
    fresh = correlated(6000, 4)[:2000]
    truth = multivariate_normal(vectors.double().mean(0).numpy(), np.cov(vectors.double().numpy().T))
    expected = -truth.logpdf(fresh.double().numpy())
    assert abs(float(flow.nll(fresh).mean()) - expected.mean()) < 0.05
    assert np.corrcoef(flow.nll(fresh).numpy(), expected)[0, 1] > 0.98


def test_it_learns_what_a_normal_distribution_cannot_say() -> None:
    flow = VectorFlow().fit(moons(4000), FlowTraining(steps=8, width=32, epochs=6, rate=1e-2, batch=256))
    fresh = moons(2000, seed=1).double().numpy()
    normal = multivariate_normal(fresh.mean(0), np.cov(fresh.T))
    learned = flow.nll(torch.from_numpy(fresh).float())
    assert float(learned.mean()) < -normal.logpdf(fresh).mean() - 0.4
    assert float(flow.nll(torch.tensor([[0.5, 0.25]]))) > float(learned.quantile(0.85))  # the mean, where nothing is


def test_densities_integrate_to_one() -> None:
    flow = VectorFlow().fit(moons(2000), SMALL)
    x, y = torch.meshgrid(torch.arange(-4, 5, 0.02), torch.arange(-4, 5, 0.02), indexing="ij")
    density = torch.exp(-flow.nll(torch.stack([x.flatten(), y.flatten()], dim=1)))
    assert float(density.double().sum()) * 0.02**2 == pytest.approx(1, abs=1e-3)


def test_whitening_is_that_of_principal_components() -> None:
    vectors = correlated(400, 6)
    mean, directions = whitening(vectors, 3)
    centred = vectors.double().numpy() - vectors.double().numpy().mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    expected = (axes / np.sqrt(values)).T[::-1][:3]
    assert torch.allclose(mean, vectors.double().mean(0))
    np.testing.assert_allclose(directions.abs().numpy(), np.abs(expected), rtol=1e-6)


def test_after_a_reduction_the_density_is_that_of_the_projection() -> None:
    vectors = correlated(3000, 5)
    flow = VectorFlow().fit(vectors, FlowTraining(dimensions=2, steps=3, width=8, epochs=2))
    centred = vectors.double().numpy() - vectors.double().numpy().mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, -2:]
    projected = torch.from_numpy(centred @ axes).float()
    other = VectorFlow().fit(projected, FlowTraining(steps=3, width=8, epochs=2))
    assert float(flow.nll(vectors).mean()) == pytest.approx(float(other.nll(projected).mean()), abs=0.02)
    across = torch.linalg.qr(torch.from_numpy(axes), mode="complete").Q[:, 2].float()
    torch.testing.assert_close(flow.nll(vectors[:9] + 100 * across), flow.nll(vectors[:9]), rtol=1e-3, atol=1e-2)


def hard_cases() -> dict[str, Tensor]:
    some = correlated(300, 6)
    with_constants = some.clone()
    with_constants[:, [1, 4]] = torch.tensor([7.0, 0.0])
    twins = torch.cat([some, some], dim=1)
    huge = some * torch.tensor([1e-6, 1, 1, 1, 1, 1e6])
    return {
        "identical rows": torch.full((300, 6), 2.5),
        "zeros": torch.zeros(300, 6),
        "one row": some[:1],
        "fewer rows than channels": some[:4],
        "constant channels": with_constants,
        "equal channels": twins,
        "scales far apart": huge,
        "mostly zero": some.clamp(min=20),
    }


@pytest.mark.parametrize("name", hard_cases())
def test_hard_cases_give_finite_densities(name: str) -> None:
    vectors = hard_cases()[name]
    flow = VectorFlow().fit(vectors, SMALL)
    far = torch.cat([vectors, vectors + 1, vectors * -1e4, torch.full_like(vectors[:1], 1e9)])
    assert flow.nll(far).isfinite().all()
    assert float(flow.nll(far[-1:])) >= float(flow.nll(vectors).median())


def test_far_away_it_stays_finite_and_grows() -> None:
    flow = VectorFlow().fit(moons(2000), FlowTraining(steps=32, width=16, epochs=2, rate=1e-2, batch=128))
    rays = torch.tensor([[1.0, 0.5], [-1.0, 2.0], [0.3, -1.0]])
    nll = torch.stack([flow.nll(rays * scale) for scale in (1e2, 1e3, 1e4, 1e6)])
    assert nll.isfinite().all()
    assert (nll.diff(dim=0) > 0).all()


def test_the_seed_decides_and_no_global_state_changes() -> None:
    before = torch.random.get_rng_state()
    first, again = (VectorFlow().fit(moons(500), SMALL).state_dict() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = VectorFlow().fit(moons(500), FlowTraining(**{**vars(SMALL), "seed": 1})).state_dict()
    assert not torch.equal(first["weight_1"], other["weight_1"])


def test_it_trains_where_gradients_are_off() -> None:
    expected = VectorFlow().fit(moons(500), SMALL).state_dict()
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            found = VectorFlow().fit(moons(500), SMALL)
        assert all(torch.equal(expected[name], value) for name, value in found.state_dict().items())
        assert not any(value.requires_grad or value.is_inference() for value in found.state_dict().values())


def test_many_vectors_are_scored_as_few() -> None:
    flow = VectorFlow().fit(moons(500), SMALL)
    many = moons(9000, seed=1)
    torch.testing.assert_close(flow.nll(many)[8190:8195], flow.nll(many[8190:8195]))


@pytest.mark.parametrize("name", [one.name for one in fields(FlowTraining) if one.name != "seed"])
def test_settings_must_be_above_zero(name: str) -> None:
    with pytest.raises(InputError, match=f"expected {name} above 0, got 0"):
        FlowTraining(**{name: 0})


def test_bad_input_is_told() -> None:
    with pytest.raises(InputError, match="has not been fitted"):
        VectorFlow().nll(torch.zeros(1, 2))
    with pytest.raises(InputError, match=r"at least one, got \(0, 2\)"):
        VectorFlow().fit(torch.zeros(0, 2))
    with pytest.raises(InputError, match="expected vectors of 2 channels, got 3"):
        VectorFlow().fit(moons(50), SMALL).nll(torch.zeros(1, 3))
