"""What a run tells: curves and pictures for TensorBoard, and progress for whoever listens."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from strays.detectors.base import Detector
from strays.drawing import ColourScale, draw_mask, draw_overlay
from strays.errors import InputError
from strays.networks.base import SegmentationNetwork
from strays.training.crops import Batch
from strays.training.validation import Validation

__all__ = ["Listener", "Logbook", "Waiting", "crop_pictures"]

_SCALARS_EVERY = 10
_PICTURES = 4


class Listener(Protocol):
    """Whoever wants to show how a run goes on; all calls are made from the loop's own thread."""

    def started(self, step: int, steps: int) -> None:
        """The run starts, or continues behind ``step`` of ``steps``."""

    def noted(self, message: str) -> None:
        """There is something that whoever started the run should know."""

    def stepped(self, step: int, terms: Mapping[str, float], waiting: float) -> None:
        """A step is done: its loss by terms, and the share of the time so far that was spent waiting for data."""

    def validated(self, step: int, result: Validation) -> None:
        """The validation scenes were looked at."""


class Waiting:
    """How much of the time the device had nothing to do because the data were not there yet."""

    def __init__(self) -> None:
        self.waited = 0.0
        self.total = 0.0

    def add(self, waited: float, total: float) -> None:
        """Take in the seconds of one step, and those of it that were spent waiting."""
        self.waited += waited
        self.total += total

    @property
    def share(self) -> float:
        """The share of all steps so far, in [0, 1]."""
        return self.waited / self.total if self.total else 0.0


class Logbook:
    """Writes to TensorBoard and tells the listener; only the first of several processes does.

    Args:
        accelerator: holds the trackers.
        listener: is told as well, or None.
        steps: length of the run.
    """

    def __init__(self, accelerator: Accelerator, listener: Listener | None, steps: int) -> None:
        self.accelerator = accelerator
        self.listener = listener if accelerator.is_main_process else None
        self.steps = steps
        self.waiting = Waiting()

    def start(self, step: int) -> None:
        """Open the trackers behind ``step``."""
        self.accelerator.init_trackers("tensorboard")
        if self.listener is not None:
            self.listener.started(step, self.steps)

    def note(self, message: str) -> None:
        """Tell the listener something that does not stop the run."""
        if self.listener is not None:
            self.listener.noted(message)

    def step(self, step: int, terms: Mapping[str, float], rate: float, waited: float, seconds: float) -> None:
        """Write down a step: its loss by terms, learning rate, and the seconds it took and waited for data."""
        self.waiting.add(waited, seconds)
        if step % _SCALARS_EVERY == 0:
            scalars = {f"loss/{name}": value for name, value in terms.items()}
            scalars |= {"learning rate": rate, "waiting for data": self.waiting.share}
            with _writing():
                self.accelerator.log(scalars, step)
        if self.listener is not None:
            self.listener.stepped(step, terms, self.waiting.share)

    def validation(self, step: int, result: Validation) -> None:
        """Write down what validation found."""
        with _writing():
            self.accelerator.log({f"validation/{name}": value for name, value in result.scalars().items()}, step)
        if self.listener is not None:
            self.listener.validated(step, result)

    def pictures(self, step: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Write down pictures (N, H, W, 3) by name."""
        if self.accelerator.is_main_process:
            with _writing():
                self.accelerator.get_tracker("tensorboard").log_images(pictures, step, dataformats="NHWC")

    def end(self) -> None:
        """Close the trackers."""
        with _writing():
            self.accelerator.end_training()


@contextmanager
def _writing() -> Iterator[None]:
    """Say what is wrong, and how to mend it, where curves or pictures cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot write the curves of the run: {reason}; mend that, then start the same again"
        ) from error


@torch.no_grad()
def crop_pictures(
    network: SegmentationNetwork, detector: Detector, batch: Batch, images: Tensor, void: int | None
) -> dict[str, NDArray[np.uint8]]:
    """Return pictures (N, H, W, 3) of the first crops of a batch: their negatives, and the scores laid over them.

    Args:
        network: left in the mode that it was in.
        detector: scores the crops.
        batch: labels and masks.
        images: (N, 3, h, w) in [0, 1], the crops before their colours are changed.
        void: the index of the void channel, or None.
    """
    training = network.training
    shown = images[:_PICTURES]
    scores = detector(network.eval().predict(shown, taps=detector.taps(), void=void)).cpu().numpy()
    network.train(training)
    pixels = [(255 * one.permute(1, 2, 0)).round().byte().cpu().numpy() for one in shown]
    masks = batch.mask[:_PICTURES].numpy()
    pairs = list(zip(pixels, masks, strict=True))
    drawn = {"crops/negatives": [np.asarray(draw_mask(image, mask)) for image, mask in pairs]}
    if np.isfinite(scores).all() and (scale := _scale(scores)) is not None:
        drawn["crops/scores"] = [
            np.asarray(draw_overlay(image, score, scale, mask=mask, legend=False))
            for (image, mask), score in zip(pairs, scores, strict=True)
        ]
    return {name: np.stack(one) for name, one in drawn.items()}


def _scale(scores: NDArray[np.float32]) -> ColourScale | None:
    low, high = np.quantile(scores, (0.02, 0.995)).tolist()
    return ColourScale(low, high) if low < high else None
