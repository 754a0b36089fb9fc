"""Students: networks of the library that learn to give what a tap of another network gives."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from strays.detectors.statistics import Accumulator, State
from strays.errors import InputError
from strays.networks.base import NETWORKS, SegmentationNetwork
from strays.prediction import resize_maps

__all__ = ["StudentTraining", "checked_student", "empty_student", "imitation", "trained_student"]

_SMALLEST = 64


@cache
def checked_student(name: str) -> str:
    """Return the name of a network that can be a student.

    Raises:
        InputError: if there is no such network, or it cannot be built for a number of channels.
    """
    _new(name, 1, "meta")
    return name


def empty_student(name: str, channels: int) -> SegmentationNetwork:
    """Return a network without weights, not to be trained any more, that waits for saved ones.

    Args:
        name: of the network in the registry.
        channels: what it gives for every pixel.
    """
    return _new(name, channels, "meta").eval().requires_grad_(False)


def trained_student(name: str, state: Mapping[str, Tensor]) -> SegmentationNetwork:
    """Return the student that ``StudentTraining.state`` describes, in evaluation mode and not to be trained any more.

    Args:
        name: of the network in the registry.
        state: what ``StudentTraining.state`` returned.
    """
    student = empty_student(name, int(state["channels"]))
    student.load_state_dict(_under("student.", state), assign=True)
    return student


def imitation(student: SegmentationNetwork, image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return what a student gives for RGB images (N, 3, H, W) in [0, 1], as maps (N, C, h, w) at (h, w) = ``size``.

    Images of less than 64 pixels on their longer side are enlarged to that first: an encoder of stride 32 would leave
    a batch norm with one value per channel, of which it cannot learn.
    """
    height, width = image.shape[-2:]
    if (longer := max(height, width)) < _SMALLEST:
        image = resize_maps(image, [-(-side * _SMALLEST // longer) for side in (height, width)])
    maps: Tensor = student(image)
    return maps if tuple(maps.shape[-2:]) == tuple(size) else resize_maps(maps, size)


class StudentTraining(Accumulator):
    """A student in training: weights, moments of Adam and gradients, all of which ``state`` writes down.

    The student is built when the channels of the first target are known. Every image goes through it alone, so that
    the result does not depend on how images come in batches; after ``batch`` images there is a step of Adam on the mean
    of their losses. Taken up from its state, training goes on as if it had never stopped.

    Args:
        network: name of the student in the registry of networks.
        batch: images per step.
        learning_rate: of Adam, constant.
        weight_decay: of Adam, added to the gradient.
        seed: of the first weights, and of the dropout of a student that has any.

    Attributes:
        shown: number of images so far, each as often as it was shown.
    """

    def __init__(self, network: str, batch: int, learning_rate: float, weight_decay: float, seed: int = 0) -> None:
        self.network, self.batch, self.seed = network, batch, seed
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.shown = self.pending = self.channels = 0

    def update(self, image: Tensor, target: Tensor) -> None:
        """Learn from images one after another.

        Args:
            image: (N, 3, H, W) RGB in [0, 1].
            target: (N, C, h, w) what the student shall give for them.

        Raises:
            InputError: if C is not that of the targets before, or the loss is no longer finite.
        """
        with _with_gradients():
            for one, its_target in zip(image.detach(), target.detach(), strict=True):
                self._learn(one[None].clone(), its_target[None].clone())

    def _learn(self, image: Tensor, target: Tensor) -> None:
        if not self.shown:
            self._begin(target.shape[1])
        if target.shape[1] != self.channels:
            raise InputError(f"the student learns {self.channels} channels, and this image has {target.shape[1]}")
        self._move(target.device)
        with _seeded(self.seed + self.shown, target.device):
            answer = imitation(self.student, image, (target.shape[-2], target.shape[-1]))
        loss = functional.mse_loss(answer, target)
        if not torch.isfinite(loss):
            found = float(loss.detach())
            raise InputError(f"the loss of the student is {found}: train it with a smaller learning_rate")
        loss.backward()  # type: ignore[no-untyped-call]
        self.shown, self.pending = self.shown + 1, self.pending + 1
        if self.pending == self.batch:
            self._step()

    def _begin(self, channels: int) -> None:
        with _seeded(self.seed, torch.device("cpu")):
            student = _new(self.network, channels, "cpu")
        self.channels = channels
        self.student: SegmentationNetwork = student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.student.train()
        self.optimizer = torch.optim.Adam(
            self.student.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )

    def _move(self, device: torch.device) -> None:
        if next(self.student.parameters()).device != device:
            self.student.to(device)
            self.optimizer.load_state_dict(self.optimizer.state_dict())  # takes the moments along

    def _step(self) -> None:
        for one in self.student.parameters():
            if one.grad is not None:
                one.grad.div_(self.pending)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.pending = 0

    def finish(self) -> None:
        """Take the last step where the number of images is no multiple of ``batch``."""
        if self.pending:
            self._step()

    def merge(self, other: Self) -> None:
        """Refuse: two students cannot be made one.

        Raises:
            InputError: always.
        """
        raise InputError("a student is trained on all images in one run: fit it without --shard")

    def state(self) -> State:
        """Return weights, moments, gradients that wait for a step, and counts; nothing where no image was shown."""
        if not self.shown:
            return {}
        found = {"shown": torch.tensor(self.shown), "pending": torch.tensor(self.pending)}
        found["channels"] = torch.tensor(self.channels)
        found |= {f"student.{key}": value for key, value in self.student.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"adam.{index}.{key}": value for key, value in moments.items()}
        for index, one in enumerate(self.student.parameters()):
            if one.grad is not None:
                found[f"gradient.{index}"] = one.grad
        return {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in found.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up all of it."""
        self.shown = self.pending = 0
        if not state:
            return
        with _with_gradients():
            self._begin(int(state["channels"]))
            self.student.load_state_dict(_under("student.", state))
            parameters = list(self.student.parameters())
            moments = {index: _moments(state, index, one) for index, one in enumerate(parameters)}
            known = {index: one for index, one in moments.items() if one}
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": known})
            for index, one in enumerate(parameters):
                if (gradient := state.get(f"gradient.{index}")) is not None:
                    one.grad = _laid_out(gradient, one)
        self.shown, self.pending = int(state["shown"]), int(state["pending"])


def _new(name: str, channels: int, device: str) -> SegmentationNetwork:
    kind = NETWORKS[name]
    try:
        with torch.device(device):
            return kind(classes=channels)
    except TypeError as error:
        raise InputError(f"{name} cannot be a student ({error}): choose swiftnet-mnv2 or swiftnet-rn18") from error


def _under(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _moments(state: Mapping[str, Tensor], index: int, parameter: Tensor) -> State:
    found = _under(f"adam.{index}.", state)
    return {key: value.clone() if key == "step" else _laid_out(value, parameter) for key, value in found.items()}


def _laid_out(values: Tensor, parameter: Tensor) -> Tensor:
    """Return a copy with the strides of a parameter, which the fused Adam takes for granted."""
    return torch.empty_like(parameter, requires_grad=False).copy_(values)


@contextmanager
def _with_gradients() -> Iterator[None]:
    """Compute gradients whatever the caller has switched off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from a seed of our own and leave everybody else's random numbers alone."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
