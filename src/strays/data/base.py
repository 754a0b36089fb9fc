"""What a data set is: frames on disk that become scenes when they are asked for, and the readers that know layouts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from strays.cards import Card
from strays.data.images import probe_image, read_image, read_map
from strays.data.values import LabelMap, MaskMap, ValueMap
from strays.errors import InputError
from strays.registry import Registry
from strays.scene import Scene
from strays.taxonomy import Taxonomy

__all__ = [
    "DATASETS",
    "DatasetReader",
    "Facts",
    "Frame",
    "FrameSet",
    "Recognition",
    "SceneSet",
    "register_dataset",
]


@dataclass(frozen=True)
class Frame:
    """The files of one scene.

    Args:
        name: what the scene is called in results; unique within its set.
        image: the picture.
        labels: the class labels, or None.
        mask: the anomaly mask, or None.
    """

    name: str
    image: Path
    labels: Path | None = None
    mask: Path | None = None


class SceneSet(Sequence[Scene], ABC):
    """The scenes of one split of a data set, each read or rendered when it is asked for.

    Args:
        name: what the set is called in results.
        card: the facts about the data set.
        split: which part of the data set this is, or None where it has no parts.
        taxonomy: the classes that the labels of its scenes index, or None without labels.
    """

    def __init__(self, name: str, card: Card, split: str | None = None, taxonomy: Taxonomy | None = None) -> None:
        self.name = name
        self.card = card
        self.split = split
        self.taxonomy = taxonomy

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """The names of the scenes, unique, in order."""

    @abstractmethod
    def read(self, index: int) -> Scene:
        """Return the scene at 0 <= ``index`` < ``len(self)``.

        Raises:
            InputError: if one of its files cannot be read, or says something that was not declared.
        """

    @abstractmethod
    def subset(self, indices: Sequence[int]) -> Self:
        """Return the set of the scenes at ``indices``, in that order."""

    @property
    @abstractmethod
    def has_labels(self) -> bool:
        """Whether every scene has class labels."""

    @property
    @abstractmethod
    def has_masks(self) -> bool:
        """Whether every scene has an anomaly mask."""

    @property
    def has_instances(self) -> bool:
        """Whether the anomalies of every scene are told apart."""
        return False

    def renamed(self, name: str) -> Self:
        """Return the same scenes under another name of the set."""
        other = copy(self)
        other.name = name
        return other

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Scene: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> Scene | Self:
        positions = range(len(self))[index]
        return self.read(positions) if isinstance(positions, int) else self.subset(positions)

    def __iter__(self) -> Iterator[Scene]:
        return (self.read(index) for index in range(len(self)))

    def __repr__(self) -> str:
        split = f", split={self.split!r}" if self.split else ""
        return f"{type(self).__name__}({self.name!r}{split}, {len(self)} scenes)"


class FrameSet(SceneSet):
    """Scenes that are read from files.

    Args:
        name: what the set is called in results.
        card: the facts about the data set.
        frames: the files, under unique names.
        split: which part of the data set this is.
        taxonomy: the classes that the converted labels index.
        label_map: what the raw values of label maps mean; needed where frames have labels.
        mask_map: what the raw values of masks mean; needed where frames have masks.
        unlabelled: images that were left out because nothing labels them.
        orphans: label maps and masks that belong to no image.
    """

    def __init__(
        self,
        name: str,
        card: Card,
        frames: Sequence[Frame],
        *,
        split: str | None = None,
        taxonomy: Taxonomy | None = None,
        label_map: LabelMap | None = None,
        mask_map: MaskMap | None = None,
        unlabelled: Sequence[Path] = (),
        orphans: Sequence[Path] = (),
    ) -> None:
        super().__init__(name, card, split, taxonomy)
        self.frames = tuple(frames)
        self.label_map = label_map
        self.mask_map = mask_map
        self.unlabelled = tuple(unlabelled)
        self.orphans = tuple(orphans)

    @property
    def names(self) -> list[str]:
        """The names of the frames, unique, in order."""
        return [frame.name for frame in self.frames]

    @property
    def has_labels(self) -> bool:
        """Whether every frame has class labels."""
        return bool(self.frames) and all(frame.labels for frame in self.frames)

    @property
    def has_masks(self) -> bool:
        """Whether every frame has an anomaly mask."""
        return bool(self.frames) and all(frame.mask for frame in self.frames)

    def subset(self, indices: Sequence[int]) -> Self:
        """Return the set of the frames at ``indices``, in that order."""
        other = copy(self)
        other.frames = tuple(self.frames[index] for index in indices)
        return other

    def read(self, index: int) -> Scene:
        """Return the scene at 0 <= ``index`` < ``len(self)``, its labels and mask converted and checked.

        Raises:
            InputError: if a file cannot be read, a map has another size than the image, or holds undeclared values.
        """
        frame = self.frames[index]
        image = self.read_image(frame)
        labels = self._read_map(frame, frame.labels, self.label_map, image)
        mask = self._read_map(frame, frame.mask, self.mask_map, image)
        return Scene(image, labels, mask, frame.name, self.read_outside(frame, image))

    def read_image(self, frame: Frame) -> NDArray[np.uint8]:
        """Return the picture of a frame, uint8 RGB (H, W, 3)."""
        return read_image(frame.image)

    def read_outside(self, frame: Frame, image: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
        """Return where the picture of a frame shows no scene, bool (H, W); None where the data set does not tell."""
        return None

    def _read_map(
        self, frame: Frame, path: Path | None, declared: ValueMap | None, image: NDArray[np.uint8]
    ) -> NDArray[np.uint8] | None:
        if path is None or declared is None:
            return None
        return declared.convert(read_fitting_map(path, declared.kind, frame, image), path)


def read_fitting_map(path: Path, kind: str, frame: Frame, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the raw values (H, W) of a map that belongs to the picture ``image`` (H, W, 3) of a frame.

    Raises:
        InputError: if it cannot be read, or has another size than the picture.
    """
    raw = read_map(path)
    if raw.shape != image.shape[:2]:
        raise InputError(f"{path}: {size_complaint(kind, raw.shape, frame.image, image.shape)}")
    return raw


def size_complaint(kind: str, found: tuple[int, ...], image: Path, size: tuple[int, ...]) -> str:
    """Return what is wrong with a map of (H, W) ``found`` for an image of (H, W) ``size``, and how to mend it."""
    what = f"{kind} of {found[1]}x{found[0]} for an image of {size[1]}x{size[0]} ({image})"
    if probe_image(image).size == found[:2]:
        return f"{what}; the image is turned by its EXIF orientation and the {kind} is not: turn the {kind} as well"
    return f"{what}; use the {kind} made for this image, maps are never resized here"


@dataclass(frozen=True)
class Facts:
    """What is known about the files of a data set, to recognise it and to check a copy.

    Args:
        frames: split -> how many frames it has.
        sizes: (H, W) of its images; empty if they vary.
        formats: what its images are stored as; empty if releases differ.
        shares: split -> share of each mask value (``inlier``, ``anomaly``, ``ignore``), in [0, 1], of all pixels.
        without_anomaly: split -> how many of its frames hold no anomaly.
        version: the release that the facts are of and how it differs from earlier ones, in words; empty if there is
            only one.
    """

    frames: Mapping[str | None, int] = field(default_factory=dict)
    sizes: frozenset[tuple[int, int]] = frozenset()
    formats: frozenset[str] = frozenset()
    shares: Mapping[str | None, Mapping[str, float]] = field(default_factory=dict)
    without_anomaly: Mapping[str | None, int] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True)
class Recognition:
    """A reader's claim on a folder.

    Args:
        dataset: the reader's name.
        evidence: what was seen, in words.
        certain: whether layout and content fit this data set alone, rather than others as well.
    """

    dataset: str
    evidence: str
    certain: bool = True


class DatasetReader(ABC):
    """Knows one data set: its card, its layouts on disk, and what its raw values mean.

    A subclass under ``@register_dataset(name)`` in a module of ``strays.data`` is all that a new data set needs.

    Attributes:
        card: the facts for people.
        facts: the facts to recognise and check a copy by.
        name: what the reader is registered as.
        default_split: the split that is usually evaluated; None where the data set has no parts.
        generic: whether it takes anybody's files of a kind rather than one data set.
        fallback: whether its claims count only where no other reader has one.
        needs_folder: whether there is something to read; scenes can also be rendered.
    """

    card: ClassVar[Card]
    facts: ClassVar[Facts] = Facts()
    name: ClassVar[str] = ""
    default_split: ClassVar[str | None] = None
    generic: ClassVar[bool] = False
    fallback: ClassVar[bool] = False
    needs_folder: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return the claim on a folder by its layout and content, never by its own path; None if it is none of ours."""

    @classmethod
    @abstractmethod
    def open(cls, folder: Path, split: str | None = None) -> SceneSet:
        """Return one split of the data set in ``folder``; without a name the one that is usually evaluated.

        Raises:
            InputError: if the folder has another layout, or there is no such split.
        """

    @classmethod
    def fit(cls, folder: Path) -> int:
        """Return how well a folder that was not recognised fits all the same: 0 not at all, the more the better."""
        return 0

    @classmethod
    def splits(cls, folder: Path) -> tuple[str | None, ...]:
        """Return the names of the splits that are present, ``(None,)`` where the data set has no parts."""
        return (None,)


DATASETS: Registry[type[DatasetReader]] = Registry("dataset", "strays.data")
"""Every known data set by name."""

R = TypeVar("R", bound=type[DatasetReader])


def register_dataset(name: str) -> Callable[[R], R]:
    """Return a decorator that enters a reader into ``DATASETS`` under ``name``."""

    def enter(reader: R) -> R:
        reader.name = name
        return DATASETS.register(name)(reader)

    return enter
