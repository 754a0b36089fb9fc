"""What detectors around another detector share."""

from collections.abc import Mapping

from torch import Tensor

from strays.detectors.base import Detector
from strays.detectors.build import build_detector, spec_of
from strays.detectors.stored import Settings

__all__ = ["Wrapper", "as_detector"]


def as_detector(detector: str | Detector) -> Detector:
    """Return a detector as it is, or the one that a string describes, see ``build_detector``."""
    return build_detector(detector) if isinstance(detector, str) else detector


class Wrapper(Detector):
    """A detector that changes the score of another one, its ``inner``.

    Args:
        detector: the other one, or a string such as ``energy:temperature=2`` or ``nearest-neighbors@FILE``; one that
            needs fitting comes fitted.
    """

    def __init__(self, detector: str | Detector = "energy") -> None:
        super().__init__()
        self.inner = as_detector(detector)
        self.fitted_on, self.absent = self.inner.fitted_on, self.inner.absent

    def taps(self) -> frozenset[str]:
        """Return the features that the inner detector reads."""
        return self.inner.taps()

    def settings(self) -> Settings:
        """Return the inner detector in words."""
        return {"detector": spec_of(self.inner)}

    def expect(self, state: Mapping[str, Tensor]) -> None:
        """Let the inner detector build what its saved tensors need."""
        self.inner.expect(
            {key.removeprefix("inner."): value for key, value in state.items() if key.startswith("inner.")}
        )
