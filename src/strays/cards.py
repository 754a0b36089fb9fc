"""Cards: the facts about a network, detector, recipe or data set, checked by tests and printed by the listings."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Card", "Needs", "Published"]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Needs(_Facts):
    """What a detector or recipe asks for beyond the logits of one pass.

    ``anomalies`` means that fitting reads anomaly masks, ``gradients`` and ``dropout`` that scoring runs the network
    again, ``outlier_head`` that the network was trained with one.
    """

    fitting: bool = False
    anomalies: bool = False
    void_class: bool = False
    outlier_head: bool = False
    negatives: bool = False
    masks: bool = False
    features: bool = False
    gradients: bool = False
    dropout: bool = False
    image: bool = False


class Published(_Facts):
    """One published number, a fraction in [0, 1], with the network and the protocol it was measured under."""

    dataset: str
    metric: str
    value: float
    network: str = ""
    protocol: str = ""


class Card(_Facts):
    """The facts about one component.

    ``title`` is the name the field uses, ``summary`` one sentence on what it does; ``paper``, ``year`` and ``url`` say
    where it comes from; ``licence`` is that of the data or weights where there are any; ``status`` says
    what the reader of a data set has been tried on; ``track`` is the one of SegmentMeIfYouCan whose component metrics
    suit it.

    Example:
        >>> Card(title="MSP", summary="One minus the largest class probability.", year=2017).year
        2017
    """

    title: str
    summary: str
    paper: str = ""
    year: int | None = None
    url: str = ""
    licence: str = ""
    needs: Needs = Needs()
    published: tuple[Published, ...] = ()
    status: str = ""
    track: Literal["", "anomaly-track", "obstacle-track"] = ""
    notes: str = ""
