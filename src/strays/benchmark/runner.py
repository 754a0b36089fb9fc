"""Detectors x data sets: one pass of the network per image serves all detectors."""

import hashlib
import json
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strays.benchmark.looks import FirstLook, SecondLook, halves_of
from strays.benchmark.measures import Gathering, Sight
from strays.benchmark.protocol import Components, Protocol, library_versions
from strays.benchmark.results import ResultRow, Unmeasured, Unreadable
from strays.benchmark.tally import NETWORK, Tally
from strays.data.base import FrameSet, SceneSet
from strays.data.reading import read_ahead
from strays.detectors.base import Detector
from strays.errors import InputError
from strays.files import make_folder
from strays.metrics import Curve, PixelHistogram, PixelMetrics, PixelResult
from strays.networks.digest import state_sha256
from strays.scene import Scene
from strays.scoring import Scorer
from strays.scoring.continuing import file_stamp
from strays.taxonomy import IGNORE, named_classes, translation

__all__ = ["Benchmark", "Outcome", "WorstFrame"]

_STATE = ".state"
_SHOWN = 2
"""So many misses and so many false alarms are shown per detector and data set."""

Advance = Callable[[str, int, int], None]
"""Told the data set, how many of its images are done, and how many it has."""


@dataclass(frozen=True, eq=False)
class WorstFrame:
    """A frame on which a detector did badly.

    Args:
        kind: ``miss`` or ``false alarm``.
        scene: the frame, at the size that was measured.
        score: float32 (H, W).
        typical: median score of its anomaly pixels for a miss, 99.9 % quantile of its inlier pixels for a false alarm.
    """

    kind: str
    scene: Scene
    score: NDArray[np.float32]
    typical: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """A row of the results, with what a report shows of it.

    ``curve`` and ``histogram`` are None where metrics are averaged over images.
    """

    row: ResultRow
    curve: Curve | None
    histogram: PixelHistogram | None
    worst: Sequence[WorstFrame]


class Benchmark:
    """One model and its detectors, measured under one protocol.

    Args:
        scorer: the model and its detectors; ``scorer.network_size`` must be that of the protocol.
        protocol: how it is measured.
        out: folder of the run; one that holds an unfinished run with the same settings is continued.
        strict: stop at the first image that cannot be used instead of reporting it and going on.

    Attributes:
        unreadable: the images that are in no number so far.
        unmeasured: what could be measured only in part so far.

    Raises:
        InputError: if the folder cannot be written to.
    """

    def __init__(self, scorer: Scorer, protocol: Protocol, out: Path, strict: bool = False) -> None:
        if scorer.network_size != protocol.network_size:
            raise InputError(f"the scorer has network size {scorer.network_size}, the protocol {protocol.network_size}")
        self.scorer = scorer
        self.protocol = protocol
        self.out = make_folder(out)
        self.strict = strict
        self.sha256 = scorer.model.sha256()
        self.unreadable: list[Unreadable] = []
        self.unmeasured: list[Unmeasured] = []

    def check(self, scenes: SceneSet) -> None:
        """Refuse now what ``run`` would refuse after the data sets before it have been measured.

        Raises:
            InputError: if the scenes have no masks, or the folder holds a run with other settings or from other files.
        """
        if not scenes.has_masks:
            raise InputError(
                f"{scenes.name} has no anomaly masks, so nothing can be measured: name a set that has them, put masks "
                "of 0 and 1 (255 counts nowhere) into labels_masks beside images, or say anomaly-instances=PATH for a "
                "COCO file of anomalies"
            )
        self._tally("pixels", scenes, self._first_look(scenes).measures()).check()

    def run(self, scenes: SceneSet, advance: Advance | None = None) -> list[Outcome]:
        """Measure all detectors on one data set.

        Raises:
            InputError: as for ``check``; if no image can be used, or none has anomaly or none inlier pixels; or, when
                strict, if one image cannot be used.
        """
        self.check(scenes)
        first = self._first_look(scenes)
        tally = self._sweep(scenes, self._tally("pixels", scenes, first.measures()).restored(), advance)
        self.unreadable += [
            Unreadable(dataset=scenes.name, name=name, reason=reason) for name, reason in tally.unreadable.items()
        ]
        results = {name: self._metrics(scenes, tally, first, name) for name in self.names}
        further = self._further(scenes, first, results, advance)
        worst = self._worst(scenes, tally)
        return [
            self._outcome(scenes, name, tally, first, results[name], further[name], worst[name]) for name in self.names
        ]

    @property
    def names(self) -> list[str]:
        """The detectors, in words."""
        return list(self.scorer.detectors)

    def _first_look(self, scenes: SceneSet) -> FirstLook:
        """Return what is gathered first, still empty."""
        halves = sorted(set(halves_of(scenes.names).values())) if self._measures_classes(scenes) else ()
        return FirstLook.prepared(self.names, self.protocol, halves)

    def _measures_classes(self, scenes: SceneSet) -> bool:
        return self.protocol.classes and self._labels_of(scenes) is not None

    def _labels_of(self, scenes: SceneSet) -> NDArray[np.uint8] | None:
        """Return the label of the model for every label of the scenes, (256,) uint8; None if they share no class."""
        if not scenes.has_labels or scenes.taxonomy is None:
            return None
        table = translation(scenes.taxonomy, self.scorer.model.taxonomy)
        return None if (table == IGNORE).all() else table

    def _tally(self, kind: str, scenes: SceneSet, measures: Sequence[Gathering]) -> Tally:
        folder = make_folder(self.out / _STATE)
        whose = json.dumps([self.scorer.model.name, scenes.name, kind])  # two of them may look alike as file names
        name = f"{_slug(self.scorer.model.name)}-{_slug(scenes.name)}-{_digest(whose)}.npz"
        return Tally(folder / name, measures, self._settings(scenes), _stamps(scenes))

    def _settings(self, scenes: SceneSet) -> dict[str, object]:
        """Return everything that decides the numbers apart from the files of the images."""
        names, taxonomy = scenes.names, self.scorer.model.taxonomy
        return {
            **self.protocol.model_dump(mode="json", exclude={"name"}),
            "weights": self.sha256,
            "taxonomy": taxonomy.name,
            "void": taxonomy.void,
            "detectors": self.names,
            "fits": {name: fit["sha256"] for name, fit in self._fits().items()},
            "split": scenes.split,
            "images": f"{len(names)} ({_digest(json.dumps(names))})",
            "device": str(self.scorer.model.device),
            **library_versions(),
        }

    def _fits(self) -> dict[str, dict[str, object]]:
        """Return by detector the digest of what was fitted, and on what, as far as that is known."""
        states = {name: one.state_dict() for name, one in self.scorer.detectors.items()}
        return {
            name: {"sha256": state_sha256(state), "on": _fitted_on(self.scorer.detectors[name])}
            for name, state in states.items()
            if state
        }

    def _sweep(self, scenes: SceneSet, tally: Tally, advance: Advance | None) -> Tally:
        """Score every scene that the tally has not seen, and count it."""
        table = self._labels_of(scenes) if self.protocol.classes else None
        halves = halves_of(scenes.names)
        pending = [index for index, name in enumerate(scenes.names) if name not in tally]
        if advance is not None:
            advance(scenes.name, len(tally), len(scenes))
        for index, scene in read_ahead(pending, lambda index: self._read(scenes, index)):
            name = scenes.names[index]
            self._take(name, scene, tally, halves[name], table)
            tally.save()
            if advance is not None:
                advance(scenes.name, len(tally), len(scenes))
        if pending:
            tally.save(now=True)
        return tally

    def _take(
        self, name: str, scene: Scene | InputError, tally: Tally, half: str, table: NDArray[np.uint8] | None
    ) -> None:
        try:
            if isinstance(scene, InputError):
                raise scene
            if self.protocol.anomaly_free == "skip" and not scene.has_anomaly:
                tally.left_out.append(name)
                return
            scored = self.scorer(scene.image)
            seen = {} if table is None else {"labels": _labels(scene, table), "predicted": scored.labels}
            tally.count(name, Sight(scored.scores, _mask(scene), half, **seen, instances=scene.instances))
            tally.milliseconds.append({NETWORK: scored.network_milliseconds, **scored.detector_milliseconds})
        except InputError as error:
            if self.strict:
                raise InputError(f"{name}: {error}") from error
            tally.unreadable[name] = str(error)

    def _read(self, scenes: SceneSet, index: int) -> Scene | InputError:
        try:
            scene = scenes[index]
        except InputError as error:
            return error
        return scene if self.protocol.size is None else scene.resized(self.protocol.size)

    def _further(
        self, scenes: SceneSet, first: FirstLook, results: Mapping[str, PixelResult], advance: Advance | None
    ) -> dict[str, dict[str, float]]:
        """Return component metrics and metrics of classes by detector; what cannot be measured is noted.

        Most of them need thresholds of the whole set, hence a second sweep.
        """
        if self.protocol.classes and not self._measures_classes(scenes):
            self.unmeasured.append(self.failed(scenes, "no metrics of classes: no labels that the model knows"))
        if self.protocol.instances and not scenes.has_instances:
            told = "no metrics of instances: its anomalies are not told apart, as those of anomaly-instances are"
            self.unmeasured.append(self.failed(scenes, told))
        second = self._second_look(scenes, first, results, advance)
        table = self._labels_of(scenes)
        named = frozenset[int]() if table is None else named_classes(table)
        return {
            name: {
                **self._noted(scenes, "failure detection", partial(first.class_metrics, name)),
                **self._noted(scenes, "component metrics", partial(second.component_metrics, name)),
                **self._noted(scenes, "metrics of instances", partial(second.instance_metrics, name)),
                **self._noted(scenes, "open-set metrics", partial(second.class_metrics, name, named)),
            }
            for name in self.names
        }

    def _second_look(
        self, scenes: SceneSet, first: FirstLook, results: Mapping[str, PixelResult], advance: Advance | None
    ) -> SecondLook:
        instances = self.protocol.instances and scenes.has_instances
        wanted = results, self._track(scenes), instances, len(self.scorer.model.taxonomy)
        try:
            second = SecondLook.prepared(first, *wanted)
        except InputError as error:
            self.unmeasured.append(self.failed(scenes, f"no open-set metrics: {error}"))
            second = SecondLook.prepared(replace(first, thresholds={}), *wanted)
        if second.measures():
            # An image that could be read only now has moved the thresholds: then this sweep is another one.
            kind = f"thresholds {json.dumps(second.thresholds())}"
            self._sweep(scenes, self._tally(kind, scenes, second.measures()).restored(), advance)
        return second

    def _track(self, scenes: SceneSet) -> Components:
        """Return whose size filters the component metrics of a data set have."""
        wanted = self.protocol.components
        return (scenes.card.track or "none") if wanted == "by-data-set" else wanted

    def _noted(self, scenes: SceneSet, what: str, compute: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Return what is computed, or nothing with a note why; once, if it is so for all detectors."""
        try:
            return compute()
        except InputError as error:
            note = self.failed(scenes, f"no {what}: {error}")
            if note not in self.unmeasured:
                self.unmeasured.append(note)
            return {}

    def failed(self, scenes: SceneSet, reason: str) -> Unmeasured:
        """Return the note that something of a data set could not be measured with this model."""
        return Unmeasured(model=self.scorer.model.name, dataset=scenes.name, reason=reason)

    def _metrics(self, scenes: SceneSet, tally: Tally, first: FirstLook, name: str) -> PixelResult:
        if not tally.counted and tally.unreadable:
            image, reason = next(iter(tally.unreadable.items()))
            lost = f"none of the {len(tally.unreadable)} images could be used"
            raise InputError(f"{scenes.name}: {lost}; the first, {image}: {reason}")
        if not tally.counted:
            raise InputError(f"{scenes.name}: no image has an anomaly, and images without any are skipped")
        try:
            return first.pixels[name].accumulator.compute()
        except InputError as error:
            raise InputError(f"{scenes.name}: {error}") from error

    def _outcome(
        self,
        scenes: SceneSet,
        name: str,
        tally: Tally,
        first: FirstLook,
        result: PixelResult,
        further: dict[str, float],
        worst: Sequence[WorstFrame],
    ) -> Outcome:
        accumulator = first.pixels[name].accumulator
        metrics = {key: value for key, value in result.items() if not key.startswith(("pixels_", "images"))}
        row = ResultRow(
            model=self.scorer.model.name,
            detector=name,
            dataset=scenes.name,
            metrics={**metrics, **further},
            bounds={key: (bound.lower, bound.upper) for key, bound in result.bounds.items()},
            protocol=self._protocol(scenes, name, tally, result),
        )
        if isinstance(accumulator, PixelMetrics):
            return Outcome(row, accumulator.curve(), accumulator.histogram(), worst)
        return Outcome(row, None, None, worst)

    def _protocol(self, scenes: SceneSet, name: str, tally: Tally, result: PixelResult) -> dict[str, object]:
        model = self.scorer.model
        skipped = int(result.get("images_skipped", 0))  # per image: those that define no metric
        return {
            "protocol": self.protocol.name,
            **self.protocol.model_dump(mode="json", exclude={"name"}),
            "images": len(tally.counted) - skipped,
            "images_left_out": len(tally.left_out) + skipped,
            "images_unreadable": len(tally.unreadable),
            "pixels": {kind: int(result[f"pixels_{kind}"]) for kind in ("inlier", "anomaly", "ignored")},
            "split": scenes.split,
            "data": scenes.card.title,
            "network": model.facts.network,
            "configuration": dict(model.facts.configuration),
            "weights_sha256": self.sha256,
            "detector_settings": self.scorer.detectors[name].settings(),
            "fit": self._fits().get(name),
            "milliseconds": _median(one[NETWORK] + one[name] for one in tally.milliseconds),
            "detector_milliseconds": _median(one[name] for one in tally.milliseconds),
            "device": str(model.device),
            "versions": library_versions(),
        }

    def _worst(self, scenes: SceneSet, tally: Tally) -> dict[str, list[WorstFrame]]:
        """Return by detector the worst misses and false alarms; the few frames are scored once more."""
        chosen = {name: _choose(tally, name) for name in self.names}
        needed = sorted({frame for frames in chosen.values() for _, frame, _ in frames})
        seen = {}
        for frame in needed:
            scene = self._read(scenes, scenes.names.index(frame))
            if isinstance(scene, Scene):
                seen[frame] = (scene, self.scorer(scene.image).scores)
        return {
            name: [
                WorstFrame(kind, seen[frame][0], seen[frame][1][name], typical)
                for kind, frame, typical in frames
                if frame in seen
            ]
            for name, frames in chosen.items()
        }


def _choose(tally: Tally, detector: str) -> list[tuple[str, str, float]]:
    """Return kind, name and typical score of the frames to show: lowest anomalies, highest inliers."""
    notes = [(frame, *by_detector[detector]) for frame, by_detector in tally.counted.items()]
    anomalies = sorted((value, frame) for frame, value, _ in notes if value is not None)
    inliers = sorted((-value, frame) for frame, _, value in notes if value is not None)
    misses = [("miss", frame, value) for value, frame in anomalies[:_SHOWN]]
    return misses + [("false alarm", frame, -value) for value, frame in inliers[:_SHOWN]]


def _fitted_on(detector: Detector) -> dict[str, object] | None:
    return None if detector.fitted_on is None else detector.fitted_on.model_dump(mode="json")


def _median(values: Iterable[float]) -> float | None:
    """Return the median with two decimals, None of nothing."""
    found = list(values)
    return round(statistics.median(found), 2) if found else None


def _labels(scene: Scene, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if scene.labels is None:
        raise InputError(f"{scene.name} has no class labels")
    return table[scene.labels]


def _mask(scene: Scene) -> NDArray[np.uint8]:
    if scene.mask is None:
        raise InputError(f"{scene.name} has no anomaly mask")
    return scene.mask


def _stamps(scenes: SceneSet) -> dict[str, list[int]]:
    """Return by image what tells whether its files have changed; nothing for scenes that are rendered."""
    if not isinstance(scenes, FrameSet):
        return {}
    files = {frame.name: (frame.image, frame.mask, frame.labels) for frame in scenes.frames}
    return {name: [part for path in paths if path for part in file_stamp(path)] for name, paths in files.items()}


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]
