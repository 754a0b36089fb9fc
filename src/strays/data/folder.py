"""Anybody's images: with masks whose values are declared, or alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from strays.cards import Card
from strays.data.base import DatasetReader, Frame, FrameSet, Recognition, register_dataset
from strays.data.declaration import DECLARATION, Declaration, MaskValues, read_declaration
from strays.data.images import probe_image, read_map
from strays.data.layout import PairLayout, Pairs
from strays.data.paired import MaskedReader
from strays.data.sources import find_images, image_files
from strays.data.values import MaskMap, histogram
from strays.errors import InputError

__all__ = ["FolderReader", "FramesReader"]

_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "rgb", "original", "frames")
_MASK_FOLDERS = ("masks", "labels_masks", "anomaly_masks", "mask", "labels", "label", "gt", "annotations")
_EXAMPLE = '{"values": {"inlier": [0], "anomaly": [1], "ignore": [255]}}'
_ADVICE = f"declare it in {DECLARATION} in the data set's folder, such as {_EXAMPLE}"
_OTHER_VOID = '{"values": {"inlier": [1], "anomaly": [2], "ignore": [0]}}'
_TWO = (
    f'if 2 marks anomalies, write {{"values": {{"anomaly": [2]}}}} into {DECLARATION}; '
    f"or, if 0 is to be ignored and 1 is inlier, {_OTHER_VOID}"
)
_PROBED = 4
"""Official folders of labels have coloured maps and maps of instances beside those of classes."""
_MAP_MODES = frozenset({"1", "L", "P", "I", "I;16", "I;16B"})


@register_dataset("folder")
class FolderReader(MaskedReader):
    """Anybody's images and anomaly masks.

    Without a declaration the folders are found by their usual names (``images`` with ``masks``, ``labels_masks``, ...),
    and masks hold 0 for inliers, 1 for anomalies, 255 for pixels to ignore. ``strays.json`` in the folder, or a JSON
    file anywhere that is opened in place of the folder, declares others:

        {"images": "rgb", "masks": "gt", "mask_ending": "_mask", "values": {"anomaly": [255], "ignore": []}}

    Image and mask share their file name up to the suffix and the declared endings. Masks without a single 1 whose 255
    nobody declared are refused, as 255 marks the anomaly in many of them.
    """

    card: ClassVar[Card] = Card(
        title="Folder",
        status="your own files",
        summary="Your own images and anomaly masks, with the mask values that you declare.",
        notes=f"0 inlier, 1 anomaly, 255 ignore, unless {DECLARATION} in the folder declares others",
    )
    generic: ClassVar[bool] = True
    layouts: ClassVar[tuple[str, ...]] = ("images/NAME.* with masks/NAME.*", f"folders named in {DECLARATION}")

    @classmethod
    def pairs(cls, folder: Path, split: str | None) -> Pairs | None:
        """Return the pairs in the declared or usual folders."""
        return _pairs(folder, read_declaration(folder) or Declaration())

    @classmethod
    def open(
        cls,
        folder: Path,
        split: str | None = None,
        *,
        images: str | Path | None = None,
        masks: str | Path | None = None,
        inlier: int | Iterable[int] | None = None,
        anomaly: int | Iterable[int] | None = None,
        ignore: int | Iterable[int] | None = None,
    ) -> FrameSet:
        """Return the scenes of a folder; what is not given is taken from ``strays.json``, or is as usual.

        Args:
            folder: where the images and masks lie, or a JSON file that declares it.
            split: None, a folder has no parts.
            images: the folder of images, relative to ``folder`` or absolute.
            masks: the folder of masks.
            inlier: raw mask values of normal pixels.
            anomaly: raw mask values of anomalous pixels.
            ignore: raw mask values of pixels that count nowhere.

        Raises:
            InputError: if no image has a mask, a value is declared twice, or nobody declared what 255 means in masks
                that hold no anomaly otherwise.
        """
        if split is not None:
            raise InputError(f"a folder has no splits, got {split!r}: leave it out, or name the folder of the split")
        given = {"images": images, "masks": masks}
        chosen = {kind: str(path) for kind, path in given.items() if path is not None}
        declared = (read_declaration(folder) or Declaration()).model_copy(update=chosen)
        pairs = _pairs(folder, declared)
        if pairs is None or not pairs.matched:
            raise InputError(cls.nothing(folder, pairs))
        if anomaly is None and ignore is None and not declared.values.model_fields_set & {"anomaly", "ignore"}:
            _refuse_doubtful([mask for _, mask in pairs.matched.values()])
        scenes = cls.frame_set(pairs, None)
        scenes.mask_map = _mask_map(declared.values, inlier, anomaly, ignore)
        return scenes

    @classmethod
    def fit(cls, folder: Path) -> int:
        """Return 2 where images have masks: more than another data set's layout, less than its values as well."""
        pairs = cls.pairs(folder, None)
        return 2 if pairs is not None and pairs.matched else 0

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return a claim where images have masks whose values are declared in a file, or are the usual ones."""
        declared = read_declaration(folder)
        pairs = cls.pairs(folder, None)
        if pairs is None or not pairs.matched:
            return None
        if declared is not None:
            return Recognition(cls.name, f"a declaration and {len(pairs.matched)} images with masks")
        if super().fit(folder) < 3:
            return None
        return Recognition(cls.name, f"{len(pairs.matched)} images with masks, values among 0, 1, 255", certain=False)


@register_dataset("frames")
class FramesReader(DatasetReader):
    """A folder of images without labels or masks, such as the frames of a drive; subfolders are searched as well."""

    card: ClassVar[Card] = Card(
        title="Frames",
        summary="Images without labels or masks, such as the frames of a drive.",
        status="your own files",
    )
    generic: ClassVar[bool] = True
    fallback: ClassVar[bool] = True

    @classmethod
    def open(cls, folder: Path, split: str | None = None) -> FrameSet:
        """Return the images of a folder in natural order.

        Raises:
            InputError: if there are none, or a split is asked for.
        """
        if split is not None:
            raise InputError(f"frames have no splits, got {split!r}: leave it out, or name the folder of the split")
        return FrameSet(cls.name, cls.card, [Frame(source.name, source.path) for source in find_images([folder])])

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return a claim if no folder with images has a label map among its first few files, nor belongs to images."""
        if FolderReader.fit(folder):
            return None
        images = list(image_files(folder)) if folder.is_dir() else []
        first: dict[Path, list[Path]] = {}
        for path in images:
            first.setdefault(path.parent, []).append(path)
        if not first or any(_looks_like_map(path) for paths in first.values() for path in paths[:_PROBED]):
            return None
        return Recognition(cls.name, f"{len(images)} images without masks in {len(first)} folder(s)", certain=False)


def _pairs(folder: Path, declared: Declaration) -> Pairs | None:
    folder = folder.parent if folder.is_file() else folder
    images = declared.images or _present(folder, _IMAGE_FOLDERS)
    masks = declared.masks or _present(folder, _MASK_FOLDERS)
    if images is None or masks is None:
        return None
    images, masks = (str(Path(one).expanduser()) for one in (images, masks))
    return PairLayout(images, masks, declared.image_ending, declared.mask_ending).find(folder)


def _present(folder: Path, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if (folder / name).is_dir()), None)


def _mask_map(
    values: MaskValues,
    inlier: int | Iterable[int] | None,
    anomaly: int | Iterable[int] | None,
    ignore: int | Iterable[int] | None,
) -> MaskMap:
    return MaskMap(
        values.inlier if inlier is None else _several(inlier),
        values.anomaly if anomaly is None else _several(anomaly),
        values.ignore if ignore is None else _several(ignore),
        {2: _TWO},
        _ADVICE,
    )


def _refuse_doubtful(masks: Sequence[Path]) -> None:
    doubtful = False
    for path in masks:
        try:
            counts = histogram(read_map(path))
        except InputError:  # reported by name when the frame is read
            continue
        if counts[1]:
            return
        doubtful = doubtful or counts[255] > 0
    if doubtful:
        what = f"the masks in {masks[0].parent} hold 255 and not a single 1, and nobody declared what 255 means"
        ways = '{"values": {"anomaly": [255], "ignore": []}} or {"values": {"ignore": [255]}}'
        raise InputError(f"{what}; write {ways} into {DECLARATION}, or pass anomaly= and ignore= in Python")


def _several(values: int | Iterable[int]) -> tuple[int, ...]:
    return (values,) if isinstance(values, int) else tuple(values)


def _looks_like_map(path: Path) -> bool:
    try:
        header = probe_image(path)
    except InputError:
        return False
    return header.format != "JPEG" and header.mode in _MAP_MODES
