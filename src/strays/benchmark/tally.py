"""What a sweep over one data set has gathered so far, kept on disk so that a killed run goes on."""

import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from strays.errors import InputError
from strays.files import whole_file
from strays.scene import ANOMALY, INLIER

__all__ = ["A", "Accumulator", "FrameNotes", "Tally"]

State = dict[str, NDArray[np.generic]]


class Accumulator(Protocol):
    """What a tally keeps for each detector."""

    def update(self, scores: NDArray[np.float32], mask: NDArray[np.uint8], /) -> object:
        """Take in one image."""

    def state(self) -> State:
        """Return what was gathered as arrays."""

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Return the accumulator whose state this was."""


A = TypeVar("A", bound=Accumulator)
FrameNotes = dict[str, tuple[float | None, float | None]]
"""By detector: the median score of the anomaly pixels and the 99.9 % quantile of the inlier pixels of one frame."""


class Tally(Generic[A]):
    """One accumulator per detector, and which images went into them.

    Args:
        path: where it is kept.
        accumulators: by detector.
        settings: everything that decides the numbers; a stored tally with others is refused.
        seconds: how much work a kill may cost at most.

    Raises:
        InputError: if the folder holds a tally with other settings.
    """

    def __init__(self, path: Path, accumulators: Mapping[str, A], settings: str, seconds: float = 10.0) -> None:
        self.path = path
        self.accumulators = dict(accumulators)
        self.settings = settings
        self.seconds = seconds
        self.counted: dict[str, FrameNotes] = {}
        self.left_out: list[str] = []
        self.unreadable: dict[str, str] = {}
        self.milliseconds: list[float] = []
        self._saved = time.monotonic()

    def restored(self) -> Self:
        """Take up what is on disk, if anything is, and return the tally itself."""
        if not self.path.is_file():
            return self
        with np.load(self.path, allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            if facts["settings"] != self.settings:
                found = f"{self.path.parent.parent} holds a benchmark with other settings"
                raise InputError(f"{found}: choose another --out, or delete that folder")
            for index, (name, empty) in enumerate(self.accumulators.items()):
                state = {key.split("/", 1)[1]: stored[key] for key in stored.files if key.startswith(f"{index}/")}
                self.accumulators[name] = type(empty).from_state(state)
        self.counted, self.left_out = facts["counted"], facts["left_out"]
        self.unreadable, self.milliseconds = facts["unreadable"], facts["milliseconds"]
        return self

    def __contains__(self, name: object) -> bool:
        return name in self.counted or name in self.left_out or name in self.unreadable

    def __len__(self) -> int:
        return len(self.counted) + len(self.left_out) + len(self.unreadable)

    def count(self, name: str, scores: Mapping[str, NDArray[np.float32]], mask: NDArray[np.uint8]) -> None:
        """Take in the scores of one image by detector."""
        for detector, accumulator in self.accumulators.items():
            accumulator.update(scores[detector], mask)
        self.counted[name] = {detector: _notes(values, mask) for detector, values in scores.items()}

    def save(self, now: bool = False) -> None:
        """Write the tally, whole or not at all, when it is due or ``now``."""
        if not now and time.monotonic() - self._saved < self.seconds:
            return
        facts = {
            "settings": self.settings,
            "counted": self.counted,
            "left_out": self.left_out,
            "unreadable": self.unreadable,
            "milliseconds": self.milliseconds,
        }
        arrays: State = {"facts": np.array(json.dumps(facts))}
        for index, accumulator in enumerate(self.accumulators.values()):
            arrays |= {f"{index}/{key}": value for key, value in accumulator.state().items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        with whole_file(self.path) as stream:
            stream.write(buffer.getbuffer())
        self._saved = time.monotonic()


_SAMPLED = 8
"""Every eighth pixel is enough to say which frames are worth showing."""


def _notes(scores: NDArray[np.float32], mask: NDArray[np.uint8]) -> tuple[float | None, float | None]:
    return _quantile(scores[mask == ANOMALY], 0.5), _quantile(scores[mask == INLIER][::_SAMPLED], 0.999)


def _quantile(values: NDArray[np.float32], level: float) -> float | None:
    return float(np.quantile(values, level)) if values.size else None
