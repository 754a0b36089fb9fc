"""The procedural scenes as a data set that needs no files: ``synthetic`` or ``synthetic=COUNT``."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from strays.cards import Card
from strays.data.base import DatasetReader, Recognition, SceneSet, register_dataset
from strays.data.synthetic.rendering import SyntheticScenes
from strays.errors import InputError
from strays.scene import Scene

__all__ = ["Rendered", "SyntheticReader"]

_COUNT = 10
_FIRST_SEEDS = {"test": 0, "val": 1_000_000, "train": 2_000_000}


class Rendered(SceneSet):
    """Scenes that are rendered when they are asked for.

    Args:
        scenes: what renders them.
        card: the facts about them.
        split: which range of seeds they come from.
        indices: which of the scenes, in which order; by default all.
    """

    def __init__(
        self, scenes: SyntheticScenes, card: Card, split: str | None = None, indices: Sequence[int] | None = None
    ) -> None:
        super().__init__("synthetic", card, split, scenes.taxonomy)
        self._scenes = scenes
        self._indices = list(range(len(scenes)) if indices is None else indices)

    @property
    def names(self) -> list[str]:
        """The names of the scenes, unique, in order."""
        return [self._scenes.names[index] for index in self._indices]

    @property
    def has_labels(self) -> bool:
        """Whether every scene has class labels: always."""
        return True

    @property
    def has_masks(self) -> bool:
        """Whether every scene has an anomaly mask: always."""
        return True

    def read(self, index: int) -> Scene:
        """Render the scene at 0 <= ``index`` < ``len(self)``."""
        return self._scenes[self._indices[index]]

    def subset(self, indices: Sequence[int]) -> Self:
        """Return the set of the scenes at ``indices``, in that order."""
        chosen = type(self)(self._scenes, self.card, self.split, [self._indices[index] for index in indices])
        return chosen.renamed(self.name)


@register_dataset("synthetic")
class SyntheticReader(DatasetReader):
    """Procedural road scenes in the CamVid taxonomy, with one to three anomalies each and exact masks.

    Its splits ``test``, ``val`` and ``train`` are different seeds, so no scene is in two of them; those of ``train``
    hold no anomalies.
    """

    card: ClassVar[Card] = Card(
        title="Synthetic scenes",
        summary="Procedural road scenes in the CamVid taxonomy with anomalies and exact masks; needs no files.",
        status="comes with the package",
        licence="Apache-2.0",
        notes="0 inlier, 1 anomaly; class labels 0 to 10",
    )
    default_split: ClassVar[str | None] = "test"
    needs_folder: ClassVar[bool] = False

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Return None: there are no files to recognise."""
        return None

    @classmethod
    def splits(cls, folder: Path) -> tuple[str | None, ...]:
        """Return the names of the splits."""
        return tuple(_FIRST_SEEDS)

    @classmethod
    def open(cls, folder: Path, split: str | None = None) -> Rendered:
        """Return so many scenes as ``folder`` says, ten where it says nothing.

        Raises:
            InputError: if it is not a whole number, or there is no such split.
        """
        count = str(folder)
        wanted = split or str(cls.default_split)
        if wanted not in _FIRST_SEEDS:
            raise InputError(f"synthetic has no split {split!r}; splits there are: {', '.join(_FIRST_SEEDS)}")
        if count != "." and not (count.isdecimal() and int(count) > 0):
            raise InputError(f"expected synthetic=COUNT with a number of scenes from 1, got synthetic={count}")
        number = _COUNT if count == "." else int(count)
        anomalies = 0 if wanted == "train" else None
        scenes = SyntheticScenes(number, seed=_FIRST_SEEDS[wanted], anomalies=anomalies)
        return Rendered(scenes, cls.card, wanted)
