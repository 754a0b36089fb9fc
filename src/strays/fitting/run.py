"""One pass over inlier scenes that fits a detector and goes on where it was killed."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from strays import __version__
from strays.data.base import FrameSet, SceneSet
from strays.data.reading import read_ahead
from strays.detectors.base import Detector, FittedOn
from strays.detectors.fitted import FittedDetector
from strays.detectors.statistics import Statistics
from strays.detectors.stored import Facts
from strays.errors import InputError
from strays.files import make_folder
from strays.fitting.shards import Gathered, Shard, conclude, read_gathered, write_gathered
from strays.model import Model
from strays.prediction import Prediction
from strays.scene import Scene
from strays.scoring import as_tensor
from strays.scoring.continuing import Pace, changes, file_stamp
from strays.taxonomy import translation

__all__ = ["FitRun"]

Advance = Callable[[int, int], None]
"""Told how many images have been shown, and how many there are to show."""


class FitRun:
    """A detector being fitted on the scenes of one or more data sets.

    Args:
        model: whose network makes the predictions; it is not changed.
        detector: the detector to fit.
        sets: the scenes.
        out: file for the fitted detector, or, of a shard, the file whose neighbour holds its statistics.
        shard: the part of the images that is taken in here; all by default.
        max_side: longer images are shrunk to so many pixels on their longer side.
        strict: stop at the first image that cannot be used instead of reporting it and going on.

    Raises:
        InputError: if the detector needs no fitting or cannot be fitted in shards, the scenes lack the labels or masks
            that it is fitted on, the network lacks a tap, or ``out`` belongs to a run with other settings.
    """

    def __init__(
        self,
        model: Model,
        detector: Detector,
        sets: Sequence[SceneSet],
        out: Path,
        shard: Shard | None = None,
        max_side: int | None = None,
        strict: bool = False,
    ) -> None:
        self.model = model
        self.detector = _fittable(detector).to(model.device)
        self.sets = list(sets)
        self.out = out
        self.shard = shard
        self.max_side = max_side
        self.strict = strict
        self._check()
        self._places = [(scenes, index) for scenes in self.sets for index in range(len(scenes))]
        part = shard or Shard()
        self._shown = [index for index in range(len(self._places)) if index in part]
        self.statistics = self.detector.statistics()
        self.gathered = self._restored(self._facts(part))
        self._pace = Pace()

    @property
    def path(self) -> Path:
        """Where the statistics are kept while they are gathered; those of a shard stay there."""
        return self.out.with_name(f".{self.out.name}.unfinished") if self.shard is None else self.shard.file(self.out)

    @property
    def total(self) -> int:
        """How many images are shown, each as often as the detector wants it."""
        return self.gathered.total

    def run(self, advance: Advance | None = None) -> None:
        """Show all images that were not shown yet; of a shard, write its statistics.

        Raises:
            InputError: when strict, for the first image that cannot be used; else if none could be.
        """
        if advance is not None:
            advance(self.gathered.shown, self.total)
        for index, scene in read_ahead(self._pending(), self._read):
            self._take(index, scene)
            if self._pace.due:
                self._save()
            if advance is not None:
                advance(self.gathered.shown, self.total)
        if self.shard is not None:
            self._save()
        self._check_used()

    def conclude(self) -> FittedDetector[Statistics]:
        """Estimate what the detector needs, write it to ``out`` and return it.

        Raises:
            InputError: if there was too little to fit on.
        """
        conclude(self.detector, self.statistics, self.gathered)
        self.detector.save(self.out)
        self.path.unlink(missing_ok=True)
        return self.detector

    def _pending(self) -> list[int]:
        """Return what is still to be shown; images that are shown more than once come in another order each time."""
        sweeps = self.detector.sweeps
        if sweeps == 1:
            return self._shown[self.gathered.shown :]
        orders = (np.random.default_rng(sweep).permutation(self._shown).tolist() for sweep in range(sweeps))
        return [index for order in orders for index in order][self.gathered.shown :]

    def _read(self, index: int) -> Scene | InputError:
        scenes, place = self._places[index]
        try:
            scene = scenes[place]
        except InputError as error:
            return error
        longer = max(scene.size)
        if self.max_side is None or longer <= self.max_side:
            return scene
        height, width = (max(1, round(side * self.max_side / longer)) for side in scene.size)
        return scene.resized((height, width))

    def _take(self, index: int, scene: Scene | InputError) -> None:
        scenes, place = self._places[index]
        name = f"{scenes.name}/{scenes.names[place]}"
        unreadable = dict(self.gathered.unreadable)
        try:
            if isinstance(scene, InputError):
                raise scene
            self.statistics.update(self._predicted(scene), self._labels(scenes, scene), index)
        except InputError as error:
            # What is wrong with the very first image is most likely wrong with all.
            if self.strict or self.gathered.shown == 0:
                raise InputError(f"{name}: {error}") from error
            unreadable[name] = str(error)
        self.gathered = self.gathered.model_copy(update={"shown": self.gathered.shown + 1, "unreadable": unreadable})

    @torch.no_grad()
    def _predicted(self, scene: Scene) -> Prediction:
        return self.model.predict(as_tensor(scene.image), scene.size, self.detector.taps())

    def _labels(self, scenes: SceneSet, scene: Scene) -> Tensor:
        """Return what the detector is fitted on, (1, H, W)."""
        target = self.detector.target
        values = scene.mask if target == "mask" else scene.labels
        if values is None:
            values = np.zeros(scene.size, np.uint8)
        elif target != "mask" and scenes.taxonomy is not None:
            known = self.model.taxonomy if target == "labels" else scenes.taxonomy
            values = translation(scenes.taxonomy, known)[values]  # void pixels are ignored in either case
        return torch.from_numpy(np.array(values))[None].to(self.model.device)

    def _save(self) -> None:
        with self._pace.saving():
            write_gathered(self.path, self.gathered, self.statistics)

    def _restored(self, facts: Gathered) -> Gathered:
        """Return the facts of the run in ``path``, its statistics taken up, or those of a new one."""
        if not self.path.is_file():
            return facts
        stored, state = read_gathered(self.path)
        if changed := changes(stored.settings(), facts.settings()):
            raise InputError(f"{self.path} is of another fit ({changed}): choose another --out, or delete it")
        self.statistics.restore(state)
        return stored

    def _facts(self, part: Shard) -> Gathered:
        taxonomy = self.model.taxonomy
        fitted_on = FittedOn(
            model=self.model.name,
            weights_sha256=self.model.sha256(),
            taxonomy=taxonomy.name,
            void=taxonomy.void,
            data=tuple(_in_words(one) for one in self.sets),
            max_side=self.max_side,
        )
        detector = self.detector
        return Gathered(
            detector=Facts(
                name=detector.name,
                settings=detector.settings(),
                version=__version__,
                taps=tuple(sorted(detector.taps())),
                fitted_on=fitted_on,
            ),
            images=_digest(self.sets),
            count=len(self._places),
            shard=part,
            total=len(self._shown) * detector.sweeps,
        )

    def _check(self) -> None:
        make_folder(self.out.parent)
        if self.shard is not None and not self.detector.mergeable:
            raise InputError(f"{self.detector.name} is trained on all images in one run: leave out --shard")
        if self.max_side is not None and self.max_side < 1:
            raise InputError(f"expected a longer side of at least 1 pixel, got {self.max_side}")
        if not any(len(one) for one in self.sets):
            raise InputError("no images to fit on: name data sets that have some")
        for scenes in self.sets:
            self._check_set(scenes)
        self.model.network.check_taps(self.detector.taps())

    def _check_set(self, scenes: SceneSet) -> None:
        name, target = self.detector.name, self.detector.target
        if target == "labels" and not scenes.has_labels:
            raise InputError(f"{name} is fitted on class labels, and {scenes.name} has none: name a set that has them")
        if target == "mask" and not scenes.has_masks:
            raise InputError(
                f"{name} is fitted on anomaly masks, and {scenes.name} has none: name a set that has them, such as "
                "smiyc-anomaly=DIR"
            )

    def _check_used(self) -> None:
        unreadable = self.gathered.unreadable
        if len(unreadable) and len(unreadable) >= len(self._shown):
            first, reason = next(iter(unreadable.items()))
            raise InputError(f"none of the {len(self._shown)} images could be used; the first, {first}: {reason}")


def _fittable(detector: Detector) -> FittedDetector[Statistics]:
    if not isinstance(detector, FittedDetector):
        raise InputError(f"{detector.name} needs no fitting: name it after --detectors as it is")
    return detector


def _in_words(scenes: SceneSet) -> str:
    return f"{scenes.name}{f' {scenes.split}' if scenes.split else ''} ({len(scenes)})"


def _digest(sets: Sequence[SceneSet]) -> str:
    """Return what tells whether the images are those that a fit began with."""
    names = [[one.name, one.names] for one in sets]
    sizes = [  # not times of change: shards may be made on several machines
        [file_stamp(path)[:1] for path in (frame.image, frame.labels, frame.mask) if path is not None]
        for one in sets
        if isinstance(one, FrameSet)
        for frame in one.frames
    ]
    return hashlib.sha256(json.dumps([names, sizes]).encode()).hexdigest()[:16]
