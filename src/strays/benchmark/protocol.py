"""How numbers are measured; written into every row of the results."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from strays import __version__
from strays.errors import InputError
from strays.metrics import Aggregation, FprRule
from strays.registry import unknown_name

__all__ = ["PROTOCOLS", "AnomalyFree", "Components", "Protocol", "Ranking", "library_versions"]

AnomalyFree = Literal["include", "skip"]
Components = Literal["none", "anomaly-track", "obstacle-track", "by-data-set"]
Ranking = Literal["scores", "smiyc"]
PROTOCOLS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "default": {},
        "half-resolution": {"size": (512, 1024), "anomaly_free": "skip"},
        "fishyscapes": {"aggregation": "pooled", "fpr_rule": "first"},
        "smiyc": {"ranking": "smiyc", "components": "by-data-set"},
        "oodis": {"instances": True},
        "caos": {"aggregation": "per-image", "fpr_rule": "argmin", "anomaly_free": "skip"},
    }
)
"""Name -> the choices that differ from the usual ones. ``half-resolution`` is that of the published rows of ENet and
ERFNet, ``caos`` that of StreetHazards and BDD-Anomaly."""

_LIBRARIES = ("torch", "numpy", "pillow", "transformers")


class Protocol(BaseModel):
    """The choices that decide a number beside scores and masks.

    ``Protocol.named`` starts from those that publications share.

    Args:
        name: what the choices together are called: one of ``PROTOCOLS``, and what was changed in it.
        size: (H, W) that image (Pillow bilinear) and mask (nearest) are resized to, or None for their own.
        network_size: (H, W) that only the network sees, or None.
        anomaly_free: whether images without any anomaly pixel count.
        aggregation: ``pooled`` ranks all pixels of a set together, ``per-image`` averages over images.
        fpr_rule: which point of the ROC curve FPR95 means.
        exact: keep every score instead of counts per key.
        ranking: ``scores`` ranks pixels by their scores; ``smiyc`` by the bins of SegmentMeIfYouCan's evaluation, which
            has no AUROC.
        components: the size filters of the component metrics of SegmentMeIfYouCan; ``by-data-set`` takes those of the
            track that a data set belongs to, ``none`` measures none.
        instances: average precision of instances too where data sets tell their anomalies apart; the connected regions
            of scores at the threshold of the best F1, of at least 10 pixels, are the instances that a detector finds.
        classes: metrics of classes too where data sets have labels: mIoU, failure detection and open-set mIoU, whose
            threshold finds 95 % of the anomalies of the other half of the images.

    Raises:
        pydantic.ValidationError: for any other choice, and for metrics of components or instances, or bins, per image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "default"
    size: tuple[int, int] | None = None
    network_size: tuple[int, int] | None = None
    anomaly_free: AnomalyFree = "include"
    aggregation: Aggregation = "pooled"
    fpr_rule: FprRule = "first"
    exact: bool = False
    ranking: Ranking = "scores"
    components: Components = "none"
    instances: bool = False
    classes: bool = False

    @classmethod
    def named(cls, name: str = "default", **choices: object) -> Self:
        """Return one of ``PROTOCOLS`` with some choices changed; its name then tells which.

        Raises:
            InputError: if there is no such protocol.
            pydantic.ValidationError: as for the class.

        Example:
            >>> Protocol.named("caos").aggregation, Protocol.named("caos", fpr_rule="first").name
            ('per-image', 'caos with fpr_rule=first')
        """
        if name not in PROTOCOLS:
            raise InputError(unknown_name("protocol", name, PROTOCOLS))
        usual = cls.model_validate({**PROTOCOLS[name], "name": name})
        changed = cls.model_validate({**usual.model_dump(), **choices})
        differing = [
            f"{key}={_shown(getattr(changed, key))}" for key in choices if getattr(usual, key) != getattr(changed, key)
        ]
        return changed.model_copy(update={"name": f"{name} with {', '.join(differing)}"}) if differing else usual

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        option = "--components" if self.components != "none" else "--instances" if self.instances else None
        if option and self.aggregation != "pooled":
            raise ValueError(f"{option} needs one threshold for the whole set: use --aggregation pooled")
        if self.ranking == "smiyc" and (self.exact or self.aggregation != "pooled"):
            raise ValueError(
                "the bins of SegmentMeIfYouCan are pooled and not exact: leave --aggregation and --exact out"
            )
        return self


def _shown(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def library_versions() -> dict[str, str]:
    """Return the versions of strays and of the libraries that numbers depend on."""
    versions = {"strays": __version__}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions
