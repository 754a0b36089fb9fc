"""Scoring many images into a folder: one colour scale for all, and nothing lost when the run is killed."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from strays.data.images import read_image
from strays.data.reading import read_ahead
from strays.data.sources import Source
from strays.drawing import ColourScale
from strays.errors import InputError
from strays.files import make_folder, write_json
from strays.journal import Journal, Record
from strays.score_map import ScoreMap
from strays.scoring.continuing import changes, file_stamp, same_file, stored_json
from strays.scoring.scorer import Scorer

__all__ = ["ScoreRun", "ScoreSettings"]

INDEX = "index.json"
_SETTINGS = "run.json"
_JOURNAL = ".journal.jsonl"
_CALIBRATED = 8
"""So many images, spread evenly over the sources, decide the colour scale of a run."""

Image = NDArray[np.uint8]


class ScoreSettings(BaseModel):
    """What a run was started with; a folder is continued only with the same.

    Args:
        model: name of the model.
        weights_sha256: over its weights.
        taxonomy: name of its classes.
        void: the index of the void channel, or None.
        detector: the detector in words.
        network_size: (H, W) that the network sees, or None for the image's own.
        threshold: the score whose contour the overlays show, or None.
        scale: lowest and highest colour, where the user fixed them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    weights_sha256: str
    taxonomy: str
    void: int | None = None
    detector: str
    network_size: tuple[int, int] | None = None
    threshold: float | None = None
    scale: tuple[float, float] | None = None


class ScoreRun:
    """A run over many images, started or continued in a folder.

    It writes ``scores/<name>.npy`` and ``overlays/<name>.jpg`` per image and at the end ``index.json``. A later run
    over other images in the same folder adds to them, in the same colours; images that failed, or whose file has
    changed since, are scored again.

    Args:
        scorer: a model with one detector.
        sources: the images.
        out: folder for the results.
        threshold: the score whose contour the overlays show.
        scale: the colour scale; by default it is chosen from the scores of eight images.
        strict: stop at the first image that cannot be scored instead of reporting it and going on.

    Raises:
        InputError: if the folder cannot be written to, or holds a run with other settings, scores of other images under
            the same names, or files of another program.
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
        if threshold is not None and not math.isfinite(threshold):
            raise InputError(f"expected a threshold in the unit of the score, got {threshold}")
        self.scorer = scorer
        self.sources = list(sources)
        self.out = make_folder(out)
        self.strict = strict
        (self.detector,) = scorer.detectors
        self.settings = ScoreSettings(
            model=scorer.model.name,
            weights_sha256=scorer.model.sha256(),
            taxonomy=scorer.model.taxonomy.name,
            void=scorer.model.taxonomy.void,
            detector=self.detector,
            network_size=scorer.network_size,
            threshold=threshold,
            scale=None if scale is None else (scale.low, scale.high),
        )
        self._check_folder()
        self.journal = Journal(out / _JOURNAL)
        self._records = {str(one.get("name")): one for one in [*_indexed(out), *self.journal.records]}
        self._check_names()
        self._calibrated: dict[str, tuple[ScoreMap, float]] = {}

    @property
    def pending(self) -> list[Source]:
        """The images that have no scores yet, those that failed before among them."""
        return [one for one in self.sources if not self._done(one)]

    def run(
        self, scored: Callable[[Record], None] | None = None, advance: Callable[[], None] | None = None
    ) -> list[Record]:
        """Score the images that are left and return the records of all, in the order of the sources.

        Args:
            scored: is told the record of each image as it is done.
            advance: is called once for each image when the network has seen it; for those that decide the colours that
                is long before they are done.

        Raises:
            InputError: with ``strict``, for the first image that cannot be scored; else if none could be.
        """
        pending = self.pending
        advance = advance or _ignore
        scale = self._scale(advance) if pending else None
        for source, image in read_ahead(pending, self._image):
            seen = source.name in self._calibrated
            record = self._record(source, image, scale)
            self._records[source.name] = record
            self.journal.append(record)
            if not seen:
                advance()
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
        calibrated = source.name in self._calibrated
        found, milliseconds = self._calibrated.pop(source.name) if calibrated else self._scored(source, image)
        saved = found.save(self.out, self.settings.threshold, scale)
        return {
            "stamp": file_stamp(source.path),
            "size": list(found.size),
            "milliseconds": round(milliseconds, 3),
            "quantiles": found.quantiles(),
            "score": saved.score.relative_to(self.out).as_posix(),
            "overlay": saved.overlay.relative_to(self.out).as_posix(),
        }

    def _scored(self, source: Source, image: Image) -> tuple[ScoreMap, float]:
        try:
            scored = self.scorer(image)
        except InputError as error:
            raise InputError(f"{source.path}: {error}") from error
        model, values = self.scorer.model, scored.scores[self.detector]
        found = ScoreMap(values, scored.labels, image, model.taxonomy, self.detector, model.name, source.name)
        return found, scored.milliseconds

    def _image(self, source: Source) -> Image | InputError:
        if source.name in self._calibrated:
            return self._calibrated[source.name][0].image
        try:
            return read_image(source.path)
        except InputError as error:
            return error

    def _scale(self, advance: Callable[[], None]) -> ColourScale:
        """Return the colour scale of the run: as given, as chosen when it was started, or chosen now."""
        given = self.settings.scale or stored_json(self.out / _SETTINGS).get("chosen_scale")
        if isinstance(given, (list, tuple)):
            return ColourScale(*given)
        chosen = self._chosen_scale(advance)
        if chosen is None:  # no image can be scored, so nothing will be drawn, and a later run may choose better
            return ColourScale(0.0, 1.0)
        stored = [chosen.low, chosen.high, chosen.clear]
        write_json(self.out / _SETTINGS, self._settings_json() | {"chosen_scale": stored})
        return chosen

    def _chosen_scale(self, advance: Callable[[], None]) -> ColourScale | None:
        step = max(1, len(self.sources) // _CALIBRATED)
        spread = self.sources[::step][:_CALIBRATED]
        # The others only stand in: where not one of those can be scored, the first of them that can decides.
        others = (one for one in self.sources if one not in spread)
        quantiles = list(self._quantiles(spread, advance)) or list(islice(self._quantiles(others, advance), 1))
        return ColourScale.of_quantiles(quantiles) if quantiles else None

    def _quantiles(self, sources: Iterable[Source], advance: Callable[[], None]) -> Iterator[dict[str, float]]:
        for source, image in read_ahead(sources, self._image):
            if isinstance(image, InputError):
                continue
            try:
                found, milliseconds = self._scored(source, image)
            except InputError:
                continue
            self._calibrated[source.name] = found, milliseconds
            advance()
            yield found.quantiles()

    def _done(self, source: Source) -> bool:
        """Whether an image has its scores and overlay, made of the file as it is now."""
        record = self._records.get(source.name, {})
        if record.get("error") or record.get("stamp") != file_stamp(source.path):
            return False
        return all((self.out / str(record.get(kind))).is_file() for kind in ("score", "overlay"))

    def _check_names(self) -> None:
        """Refuse to write over the scores of other images that have the same names."""
        for source in self.sources:
            record = self._records.get(source.name, {})
            if record.get("score") and not same_file(record.get("path"), source.path):
                taken = f"{self.out} holds the scores of {record.get('path')} under the name {source.name}"
                raise InputError(f"{taken}, which {source.path} would take: choose another --out")

    def _check_folder(self) -> None:
        path = self.out / _SETTINGS
        if not path.is_file():
            write_json(path, self._settings_json())
        elif changed := changes(stored_json(path), self._settings_json()):
            raise InputError(f"{self.out} holds a run with other settings ({changed}): choose another --out")

    def _settings_json(self) -> Record:
        return dict(self.settings.model_dump(mode="json"))

    def _finish(self) -> list[Record]:
        records = [self._records[source.name] for source in self.sources]
        everything = {"schema": 1, "run": stored_json(self.out / _SETTINGS), "images": [*records, *self._earlier()]}
        write_json(self.out / INDEX, everything)
        self.journal.remove()
        failed = [record for record in records if record.get("error")]
        if records and len(failed) == len(records):
            raise InputError(f"none of the {len(records)} images could be scored; the first: {failed[0]['error']}")
        return records

    def _earlier(self) -> list[Record]:
        """Return the records of images that were scored into the folder before and are not among the sources now."""
        names = {source.name for source in self.sources}
        paths = {os.path.abspath(source.path) for source in self.sources}  # noqa: PTH100 - links are kept
        others = [record for name, record in self._records.items() if name not in names and record.get("score")]
        return [one for one in others if os.path.abspath(str(one.get("path"))) not in paths]  # noqa: PTH100


def _ignore() -> None:
    pass


def _indexed(out: Path) -> list[Record]:
    path = out / INDEX
    if not path.is_file():
        return []
    images = stored_json(path).get("images")
    if not isinstance(images, list) or not all(isinstance(one, dict) for one in images):
        raise InputError(f"{path} is not what strays score writes: choose another --out, or remove that file")
    return images
