"""A normalizing flow on single vectors: principal axes first, then affine couplings."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from strays.errors import InputError

__all__ = ["Couplings", "FlowTraining", "VectorFlow", "flow_backward", "flow_forward", "whitening"]

_ROWS = 4096  # vectors at a time: what is between two steps then stays in the cache
_REACH = 10.0  # standard deviations beyond which the networks of the steps see no difference
_FLAT = 1e-6  # share of the largest variance below which a direction counts as constant
_NOISE = 0.05  # standard deviations of the noise on training vectors
_STEEPEST = 1.0  # norm to which gradients are cut


class Couplings(NamedTuple):
    """The weights of L steps on vectors of D dimensions with networks of H hidden units, or those of one step.

    A step scales and shifts every dimension (ActNorm), permutes them, keeps the first A = D // 2, and scales and shifts
    the other B = D - A by what a network with two hidden layers makes of those kept.

    Attributes:
        permutation: (L, D) int64.
        log_scale, shift: (L, D), of the ActNorm.
        weight_1, bias_1: (L, H, A) and (L, H).
        weight_2, bias_2: (L, H, H) and (L, H).
        weight_3, bias_3: (L, 2 B, H) and (L, 2 B), log-scales first, then shifts.
    """

    permutation: Tensor
    log_scale: Tensor
    shift: Tensor
    weight_1: Tensor
    bias_1: Tensor
    weight_2: Tensor
    bias_2: Tensor
    weight_3: Tensor
    bias_3: Tensor

    @classmethod
    def identity(cls, steps: int, dimensions: int, width: int, generator: torch.Generator) -> Self:
        """Return weights that make every step a permutation, ready to be trained.

        After whitening this is what an initialisation of the ActNorms by data would give, too.
        """
        kept, moved = dimensions // 2, 2 * (dimensions - dimensions // 2)
        drawn = [torch.randperm(dimensions, generator=generator) for _ in range(steps)]
        first = torch.randn(steps, width, kept, generator=generator) * math.sqrt(2 / max(kept, 1))
        second = torch.randn(steps, width, width, generator=generator) * math.sqrt(2 / width)
        norm, bias = torch.zeros(2, steps, dimensions), torch.zeros(2, steps, width)
        last, last_bias = torch.zeros(steps, moved, width), torch.zeros(steps, moved)
        return cls(torch.stack(drawn), norm[0], norm[1], first, bias[0], second, bias[1], last, last_bias)

    def steps(self) -> Iterator["Couplings"]:
        """Return the weights of each step."""
        # unbinding once lets the gradients of all steps be stacked once
        return (Couplings(*one) for one in zip(*(each.unbind() for each in self), strict=True))

    def parameters(self) -> tuple[Tensor, ...]:
        """Return what is trained: everything but the permutations."""
        return tuple(self)[1:]


@dataclass(frozen=True)
class FlowTraining:
    """How a flow is made and trained.

    Args:
        dimensions: how many principal axes are kept at most.
        steps: number of couplings.
        width: hidden units of the networks in the steps.
        epochs: how often every vector is seen.
        rate: learning rate of Adam at the beginning; it falls to 0 as a half cosine.
        batch: vectors per update.
        seed: decides initial weights, permutations, order and noise.

    Raises:
        InputError: if one of them is not above 0, the seed aside.
    """

    dimensions: int = 128
    steps: int = 32
    width: int = 64
    epochs: int = 10
    rate: float = 1e-3
    batch: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dimensions", "steps", "width", "epochs", "rate", "batch"):
            if getattr(self, name) <= 0:
                raise InputError(f"expected {name} above 0, got {getattr(self, name)}: leave it out for the default")


def whitening(vectors: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
    """Return mean (C,) and directions (D, C), so that directions (x - mean) has zero mean and unit variances.

    The directions are the principal axes, divided by the standard deviations along them, at most ``dimensions`` of
    them. Axes along which the vectors do not vary are left out: nothing can be said about a density there. Where they
    do not vary at all, one axis is kept as it is.

    Args:
        vectors: (n, C), at least one.
        dimensions: at least 1.

    Returns:
        Two float64 tensors.
    """
    mean = vectors.mean(0, dtype=torch.float64)
    scatter = mean.new_zeros(len(mean), len(mean))
    for rows in torch.split(vectors, _ROWS):
        centred = rows.double() - mean
        scatter += centred.T @ centred
    variances, axes = torch.linalg.eigh(scatter / len(vectors))
    variances, axes = variances.flip(0)[:dimensions], axes.flip(1)[:, :dimensions]
    kept = max(int((variances > _FLAT * variances[0]).sum()), 1)
    deviations = variances[:kept].clamp(min=0).sqrt()
    deviations = torch.where(deviations > 0, deviations, 1.0)
    return mean, (axes[:, :kept] / deviations).T


def flow_forward(values: Tensor, couplings: Couplings) -> tuple[Tensor, Tensor]:
    """Return where the steps take vectors, and by how much they stretch the space there.

    Args:
        values: (D, n), a vector per column.
        couplings: the weights.

    Returns:
        Values (D, n), and the logarithms (n,) of the determinants of the Jacobians.

    Source: Dinh et al., ICLR 2017, equations 4 to 8; Kingma and Dhariwal, NeurIPS 2018, table 1.
    """
    stretched = []
    for step in couplings.steps():
        values = torch.addcmul(step.shift[:, None], values, step.log_scale.exp()[:, None])
        kept, moved = _halves(values.index_select(0, step.permutation))
        log_scale, shift = _moves(kept, step)
        values = torch.cat([kept, torch.addcmul(shift, moved, log_scale.exp())])
        stretched.append(log_scale.sum(0))
    # stacked rather than added one by one: sums over a dimension are pairwise, and so keep float32's digits
    return values, torch.stack(stretched, dim=1).sum(1) + couplings.log_scale.sum()


def flow_backward(values: Tensor, couplings: Couplings) -> Tensor:
    """Return the vectors (D, n) that ``flow_forward`` takes to ``values``."""
    for step in reversed(list(couplings.steps())):
        kept, moved = _halves(values)
        log_scale, shift = _moves(kept, step)
        values = torch.cat([kept, (moved - shift) * torch.exp(-log_scale)])[step.permutation.argsort()]
        values = (values - step.shift[:, None]) * torch.exp(-step.log_scale)[:, None]
    return values


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    kept = len(values) // 2
    return values[:kept], values[kept:]


def _moves(kept: Tensor, step: Couplings) -> tuple[Tensor, Tensor]:
    """Return log-scales in (-1, 1) and shifts, (B, n) each.

    Beyond ``_REACH`` they no longer change. So the flow is affine far away from what it was trained on, and a vector
    of another world is improbable, but not infinitely so.
    """
    hidden = torch.addmm(step.bias_1[:, None], step.weight_1, kept.clamp(-_REACH, _REACH)).relu()
    hidden = torch.addmm(step.bias_2[:, None], step.weight_2, hidden).relu()
    log_scale, shift = torch.addmm(step.bias_3[:, None], step.weight_3, hidden).chunk(2)
    return log_scale.tanh(), shift


class VectorFlow(nn.Module):
    """The density of single vectors, learned by maximum likelihood.

    Vectors are turned into at most ``FlowTraining.dimensions`` whitened principal components; affine couplings
    then make a normal distribution of them. Where components are left out, the density is that of the vector's
    projection on the axes kept, in the space that they span; otherwise it is that of the vector itself.

    Everything is in buffers, which are None until ``fit``.

    Reference:
        Dinh et al., Density estimation using Real NVP, ICLR 2017, https://arxiv.org/abs/1605.08803
        Kingma and Dhariwal, Glow, NeurIPS 2018, https://arxiv.org/abs/1807.03039

    Example:
        >>> vectors = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
        >>> flow = VectorFlow().fit(vectors, FlowTraining(steps=2, width=8, epochs=2))
        >>> near, far = flow.nll(torch.tensor([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]))
        >>> bool(far > near + 50)
        True
    """

    mean: Tensor | None
    directions: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        for name in ("mean", "directions", *Couplings._fields):
            self.register_buffer(name, None)

    @property
    def couplings(self) -> Couplings:
        """The weights of the steps."""
        return Couplings(*(getattr(self, name) for name in Couplings._fields))

    def fit(self, vectors: Tensor, training: FlowTraining | None = None) -> Self:
        """Learn the density of vectors (n, C) and return the flow itself.

        The same vectors and seed give the same flow; no random state but its own is touched.

        Raises:
            InputError: if there are none.
        """
        if vectors.ndim != 2 or not vectors.numel():
            raise InputError(f"expected vectors (n, C), at least one, got {tuple(vectors.shape)}: give more to fit on")
        training = training or FlowTraining()
        with torch.inference_mode(False), torch.no_grad():
            mean, directions = whitening(vectors, training.dimensions)
            self.mean, self.directions = mean.float(), directions.float()
            trained = _trained(self._whitened(vectors), training)
        for name, value in trained._asdict().items():
            setattr(self, name, value)
        return self

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return where vectors (n, C) go, (n, D), and the log-determinants (n,) of the whole map.

        After a reduction of dimensions it is the determinant of the map from the kept axes on.
        """
        values, log_det = flow_forward(self._whitened(vectors).T, self.couplings)
        return values.T, log_det + self._fixed_log_det()

    def inverse(self, values: Tensor) -> Tensor:
        """Return the vectors (n, C) that go to ``values`` (n, D); what was projected away is its mean."""
        mean, directions = self._fitted()
        whitened = flow_backward(values.T, self.couplings).T
        back: Tensor = torch.linalg.pinv(directions)
        return mean + whitened @ back.T

    def nll(self, vectors: Tensor) -> Tensor:
        """Return the negative log-likelihoods (n,) in nats of vectors (n, C): |z|^2 / 2 + D / 2 ln 2 pi - ln |det|.

        Raises:
            InputError: if nothing was fitted, or vectors of another length.
        """
        return torch.cat([self._nll(rows) for rows in torch.split(vectors, _ROWS)])

    def _nll(self, vectors: Tensor) -> Tensor:
        values, log_det = self.forward(vectors)
        return 0.5 * values.square().sum(1) - log_det + 0.5 * math.log(2 * math.pi) * values.shape[1]

    def _fitted(self) -> tuple[Tensor, Tensor]:
        if self.mean is None or self.directions is None:
            raise InputError("the flow has not been fitted: call its fit with vectors (n, C)")
        return self.mean, self.directions

    def _whitened(self, vectors: Tensor) -> Tensor:
        mean, directions = self._fitted()
        if vectors.shape[1] != len(mean):
            raise InputError(
                f"expected vectors of {len(mean)} channels, got {vectors.shape[1]}: fit again on the features of this "
                "network"
            )
        return (vectors - mean) @ directions.T

    def _fixed_log_det(self) -> Tensor:
        _, directions = self._fitted()
        stretched: Tensor = torch.linalg.vector_norm(directions, dim=1)
        return stretched.log().sum()


def _trained(values: Tensor, training: FlowTraining) -> Couplings:
    """Return weights that make whitened vectors (n, D) probable."""
    generator = torch.Generator().manual_seed(training.seed)
    couplings = Couplings.identity(training.steps, values.shape[1], training.width, generator)
    parameters = [each.requires_grad_() for each in couplings.parameters()]
    batches = -(-len(values) // training.batch)
    adam = torch.optim.Adam(parameters, lr=training.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, training.epochs * batches)
    for _ in range(training.epochs):
        for chosen in torch.randperm(len(values), generator=generator).chunk(batches):
            _improve(adam, parameters, couplings, _noisy(values[chosen], generator))
            schedule.step()
    return Couplings(*(each.detach() for each in couplings))


def _noisy(values: Tensor, generator: torch.Generator) -> Tensor:
    # without it, values that occur again and again, such as the zeros of a ReLU, would have unbounded densities
    return values + _NOISE * torch.randn(values.shape, generator=generator)


def _improve(adam: torch.optim.Adam, parameters: list[Tensor], couplings: Couplings, values: Tensor) -> None:
    """Make one step of Adam towards a smaller mean negative log-likelihood per dimension."""
    adam.zero_grad()
    with torch.enable_grad():
        moved, log_det = flow_forward(values.T, couplings)
        loss = (0.5 * moved.square().sum(0) - log_det).mean() / len(moved)
        loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(parameters, _STEEPEST, foreach=True)
    adam.step()
