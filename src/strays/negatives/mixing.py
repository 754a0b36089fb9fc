"""What the training loop asks for negatives: several kinds, and how many patches get one."""

from collections.abc import Sequence

import numpy as np

from strays.errors import InputError
from strays.negatives.base import Negatives, Patch

__all__ = ["Mixture"]


class Mixture:
    """Several kinds of negatives in proportion to their lengths; those that apply everywhere come on top, last.

    Args:
        kinds: the kinds; with none, patches stay as they are.
        share: probability in [0, 1] that a patch gets a negative of a kind that is drawn.

    Raises:
        InputError: if the share is not a probability.

    Example:
        >>> from strays.negatives import Patch, build_negatives
        >>> patch = Patch(np.zeros((1, 3, 3), np.uint8), np.uint8([[4, 255, 255]]), np.uint8([[0, 0, 255]]))
        >>> Mixture([build_negatives("void")], share=0.5).mix(patch, np.random.default_rng(0)).mask.tolist()
        [[0, 1, 255]]
    """

    def __init__(self, kinds: Sequence[Negatives], share: float) -> None:
        if not 0 <= share <= 1:
            raise InputError(f"expected the share of patches with a negative in [0, 1], got {share}")
        self.kinds = tuple(kinds)
        self.share = share
        self._drawn = [kind for kind in kinds if not kind.everywhere]
        self._added = [kind for kind in kinds if kind.everywhere]
        lengths = np.array([len(kind) for kind in self._drawn], float)
        self._weights = lengths / lengths.sum() if self._drawn else lengths

    def mix(self, patch: Patch, random: np.random.Generator) -> Patch:
        """Return a patch with or without a negative in it; the one that is given is not changed.

        Raises:
            InputError: if a kind found nothing that it can use.
        """
        if self._drawn and random.random() < self.share:
            kind = self._drawn[int(random.choice(len(self._drawn), p=self._weights))]
            patch = kind.mix(patch, random)
        for kind in self._added:
            patch = kind.mix(patch, random)
        return patch
