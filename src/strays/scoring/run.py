"""Scoring many images into a folder: one colour scale for all, and nothing lost when the run is killed."""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from strays.data.images import read_image
from strays.data.sources import Source
from strays.drawing import ColourScale, score_quantiles
from strays.errors import InputError
from strays.files import make_folder, write_json
from strays.journal import Journal, Record
from strays.score_map import ScoreMap
from strays.scoring.scorer import Scored, Scorer

__all__ = ["ScoreRun", "ScoreSettings", "read_ahead"]

INDEX = "index.json"
_SETTINGS = "run.json"
_JOURNAL = ".journal.jsonl"
_CALIBRATED = 8
"""So many images, spread evenly over the sources, decide the colour scale of a run."""

Item = TypeVar("Item")
Value = TypeVar("Value")
Image = NDArray[np.uint8]


class ScoreSettings(BaseModel):
    """What a run was started with; a folder is continued only with the same.

    Args:
        model: name of the model.
        weights_sha256: over its weights.
        detector: the detector in words.
        network_size: (H, W) that the network sees, or None for the image's own.
        threshold: the score whose contour the overlays show, or None.
        scale: lowest and highest colour, where the user fixed them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    weights_sha256: str
    detector: str
    network_size: tuple[int, int] | None = None
    threshold: float | None = None
    scale: tuple[float, float] | None = None


class ScoreRun:
    """A run over many images, started or continued in a folder.

    It writes ``scores/<name>.npy`` and ``overlays/<name>.jpg`` per image and at the end ``index.json``.

    Args:
        scorer: a model with one detector.
        sources: the images.
        out: folder for the results.
        threshold: the score whose contour the overlays show.
        scale: the colour scale; by default it is chosen from the scores of eight images.
        strict: stop at the first image that cannot be scored instead of reporting it and going on.

    Raises:
        InputError: if the folder cannot be written to or holds a run with other settings.
    """

    def __init__(
        self,
        scorer: Scorer,
        sources: Sequence[Source],
        out: Path,
        threshold: float | None = None,
        scale: ColourScale | None = None,
        strict: bool = False,
    ) -> None:
        self.scorer = scorer
        self.sources = list(sources)
        self.out = make_folder(out)
        self.strict = strict
        (self.detector,) = scorer.detectors
        self.settings = ScoreSettings(
            model=scorer.model.name,
            weights_sha256=scorer.model.sha256(),
            detector=self.detector,
            network_size=scorer.network_size,
            threshold=threshold,
            scale=None if scale is None else (scale.low, scale.high),
        )
        self._check_folder()
        self.journal = Journal(out / _JOURNAL)
        self._records: dict[str, Record] = {str(one["name"]): one for one in [*_indexed(out), *self.journal.records]}
        self._calibrated: dict[str, tuple[Image, Scored]] = {}

    @property
    def pending(self) -> list[Source]:
        """The images that have no scores yet, those that failed before among them."""
        return [one for one in self.sources if self._records.get(one.name, {"error": True}).get("error")]

    def run(self, scored: Callable[[Record], None] | None = None) -> list[Record]:
        """Score the images that are left and return the records of all, in the order of the sources.

        Args:
            scored: is told the record of each image as it is done.

        Raises:
            InputError: with ``strict``, for the first image that cannot be scored; else if none could be.
        """
        pending = self.pending
        scale = self._scale() if pending else None
        for source, image in read_ahead(pending, self._image):
            record = self._record(source, image, scale)
            self._records[source.name] = record
            self.journal.append(record)
            if scored is not None:
                scored(record)
        return self._finish()

    def _record(self, source: Source, image: Image | InputError, scale: ColourScale | None) -> Record:
        record: Record = {"name": source.name, "path": str(source.path)}
        try:
            if isinstance(image, InputError):
                raise image
            return record | self._score(source, image, scale)
        except InputError as error:
            if self.strict:
                raise
            return record | {"error": str(error)}

    def _score(self, source: Source, image: Image, scale: ColourScale | None) -> Record:
        _, scored = self._calibrated.pop(source.name, (image, None))
        scored = scored or self._scored(source, image)
        values = scored.scores[self.detector]
        model = self.scorer.model
        found = ScoreMap(values, scored.labels, image, model.taxonomy, self.detector, model.name, source.name)
        saved = found.save(self.out, self.settings.threshold, scale)
        return {
            "size": list(found.size),
            "milliseconds": round(scored.milliseconds, 3),
            "quantiles": found.quantiles(),
            "score": saved.score.relative_to(self.out).as_posix(),
            "overlay": saved.overlay.relative_to(self.out).as_posix(),
        }

    def _scored(self, source: Source, image: Image) -> Scored:
        try:
            return self.scorer(image)
        except InputError as error:
            raise InputError(f"{source.path}: {error}") from error

    def _image(self, source: Source) -> Image | InputError:
        if source.name in self._calibrated:
            return self._calibrated[source.name][0]
        try:
            return read_image(source.path)
        except InputError as error:
            return error

    def _scale(self) -> ColourScale:
        """Return the colour scale of the run: as given, as chosen when it was started, or chosen now."""
        stored = json.loads((self.out / _SETTINGS).read_text("utf-8")).get("chosen_scale")
        given = self.settings.scale or stored
        if given is not None:
            return ColourScale(*given)
        chosen = self._chosen_scale()
        write_json(self.out / _SETTINGS, self._settings_json() | {"chosen_scale": [chosen.low, chosen.high]})
        return chosen

    def _chosen_scale(self) -> ColourScale:
        step = max(1, len(self.sources) // _CALIBRATED)
        quantiles = []
        for source, image in read_ahead(self.sources[::step][:_CALIBRATED], self._image):
            if isinstance(image, InputError):
                continue
            try:
                scored = self._scored(source, image)
            except InputError:
                continue
            self._calibrated[source.name] = (image, scored)
            quantiles.append(score_quantiles(scored.scores[self.detector]))
        return ColourScale.of_quantiles(quantiles) if quantiles else ColourScale(0.0, 1.0)

    def _check_folder(self) -> None:
        path = self.out / _SETTINGS
        if not path.is_file():
            write_json(path, self._settings_json())
            return
        stored = json.loads(path.read_text("utf-8"))
        now = self._settings_json()
        changed = [f"{key} was {stored.get(key)}, is {now[key]}" for key in now if stored.get(key) != now[key]]
        if changed:
            raise InputError(f"{self.out} holds a run with other settings ({'; '.join(changed)}): choose another --out")

    def _settings_json(self) -> Record:
        return dict(self.settings.model_dump(mode="json"))

    def _finish(self) -> list[Record]:
        records = [self._records[source.name] for source in self.sources]
        write_json(self.out / INDEX, {"schema": 1, "run": json.loads(_text(self.out / _SETTINGS)), "images": records})
        self.journal.remove()
        failed = [record for record in records if record.get("error")]
        if records and len(failed) == len(records):
            raise InputError(f"none of the {len(records)} images could be scored; the first: {failed[0]['error']}")
        return records


def read_ahead(items: Sequence[Item], read: Callable[[Item], Value], ahead: int = 2) -> Iterator[tuple[Item, Value]]:
    """Yield every item with what ``read`` makes of it, while the next ones are read by another thread."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        iterator = iter(items)
        coming = deque((item, pool.submit(read, item)) for item in islice(iterator, ahead))
        while coming:
            item, future = coming.popleft()
            coming.extend((following, pool.submit(read, following)) for following in islice(iterator, 1))
            yield item, future.result()


def _indexed(out: Path) -> list[Record]:
    path = out / INDEX
    if not path.is_file():
        return []
    images: list[Record] = json.loads(_text(path))["images"]
    return images


def _text(path: Path) -> str:
    return path.read_text("utf-8")
