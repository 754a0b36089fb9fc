"""How numbers are measured; written into every row of the results."""

from importlib.metadata import PackageNotFoundError, version
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from strays import __version__
from strays.metrics import Aggregation, FprRule

__all__ = ["AnomalyFree", "Components", "Protocol", "library_versions"]

AnomalyFree = Literal["include", "skip"]
Components = Literal["none", "anomaly-track", "obstacle-track"]
_LIBRARIES = ("torch", "numpy", "pillow", "transformers")


class Protocol(BaseModel):
    """The choices that decide a number beside scores and masks.

    Args:
        size: (H, W) that image (Pillow bilinear) and mask (nearest) are resized to, or None for their own.
        network_size: (H, W) that only the network sees, or None.
        anomaly_free: whether images without any anomaly pixel count.
        aggregation: ``pooled`` ranks all pixels of a set together, ``per-image`` averages over images.
        fpr_rule: which point of the ROC curve FPR95 means.
        exact: keep every score instead of counts per key.
        components: the size filters of the component metrics of SegmentMeIfYouCan, or ``none``.

    Raises:
        pydantic.ValidationError: for any other choice, and for component metrics per image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[int, int] | None = None
    network_size: tuple[int, int] | None = None
    anomaly_free: AnomalyFree = "include"
    aggregation: Aggregation = "pooled"
    fpr_rule: FprRule = "first"
    exact: bool = False
    components: Components = "none"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.components != "none" and self.aggregation != "pooled":
            raise ValueError("--components needs one threshold for the whole set: use --aggregation pooled")
        return self


def library_versions() -> dict[str, str]:
    """Return the versions of strays and of the libraries that numbers depend on."""
    versions = {"strays": __version__}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions
