"""Parts of a fit that are gathered apart, perhaps on several machines, and merged afterwards."""

import re
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from strays.detectors.fitted import FittedDetector
from strays.detectors.statistics import State, Statistics
from strays.detectors.stored import Facts, read_described, write_described
from strays.errors import InputError

__all__ = ["Gathered", "Shard", "conclude", "read_gathered", "write_gathered"]

_KEY = "strays.fit"


class Shard(BaseModel):
    """One of several equal parts of the images: every ``count``-th, from the ``number``-th on.

    Example:
        >>> shard = Shard.parse("3/8")
        >>> [index for index in range(20) if index in shard], shard.file(Path("bank.safetensors")).name
        ([2, 10, 18], 'bank.shard-3-of-8.safetensors')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard of ``NUMBER/COUNT``.

        Raises:
            InputError: if the text is something else.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise InputError(f"expected a shard as NUMBER/COUNT, from 1/8 to 8/8 say, got {text!r}")
        return cls(number=int(found[1]), count=int(found[2]))

    def __contains__(self, index: int) -> bool:
        return index % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def file(self, out: Path) -> Path:
        """Return where the statistics of this shard are kept, beside the file of the whole."""
        return out.with_name(f"{out.stem}.shard-{self.number}-of-{self.count}{out.suffix}")


class Gathered(BaseModel):
    """What a file of statistics says about them.

    Args:
        detector: what rebuilds the detector, and on what it is being fitted.
        images: digest over names and file sizes of all images.
        count: how many images there are in all shards.
        shard: which of them are taken in here.
        shown: how many of the shard's images have been shown so far, over all sweeps.
        total: how often images have to be shown.
        unreadable: images that could not be used, and why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: Facts
    images: str
    count: int
    shard: Shard
    shown: int = 0
    total: int
    unreadable: dict[str, str] = {}

    @property
    def complete(self) -> bool:
        """Whether all images of the shard have been shown."""
        return self.shown == self.total

    def settings(self) -> dict[str, object]:
        """Return everything that must be the same in all shards of a fit, and before and after a restart."""
        facts = self.detector
        fit = {} if facts.fitted_on is None else facts.fitted_on.model_dump(mode="json", exclude={"images"})
        return {
            "detector": facts.name,
            "settings": facts.settings,
            **fit,
            "data": list(fit.get("data", ())),
            "images": self.images,
        }


def write_gathered(path: Path, gathered: Gathered, statistics: Statistics) -> None:
    """Write statistics and what is known about them, whole or not at all."""
    write_described(path, _KEY, gathered, statistics.state())


def read_gathered(path: Path) -> tuple[Gathered, State]:
    """Return what ``write_gathered`` wrote: what is known about the statistics, and their tensors.

    Raises:
        WeightsError: if the file is missing, damaged, or holds something else.
    """
    state: dict[str, Tensor]
    gathered, state = read_described(path, _KEY, Gathered, "fit")
    return gathered, state


def conclude(detector: FittedDetector[Statistics], statistics: Statistics, gathered: Gathered) -> None:
    """Estimate what the detector needs and note on what it was fitted.

    Raises:
        InputError: if there was too little to fit on.
    """
    fitted_on = gathered.detector.fitted_on
    used = gathered.count - len(gathered.unreadable)
    detector.conclude(statistics)
    detector.fitted_on = None if fitted_on is None else fitted_on.model_copy(update={"images": used})
