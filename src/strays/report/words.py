"""What each metric means, in words for people who do not live in this field."""

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Metric", "explain"]


@dataclass(frozen=True)
class Metric:
    """One column of a table.

    Args:
        name: as in the results.
        title: written out.
        better: which direction is better, or None where there is none.
        words: what it says about a detector.
        unit: whether it is a fraction (shown per cent), a score in the detector's own unit, or a number of things.
        detail: whether it is shown on request only.
    """

    name: str
    title: str
    better: Literal["higher", "lower"] | None
    words: str
    unit: Literal["fraction", "score", "count"] = "fraction"
    detail: bool = False

    @property
    def arrow(self) -> str:
        """Up or down, the better direction."""
        return {"higher": "↑", "lower": "↓", None: ""}[self.better]


def _known(name: str, title: str, words: str) -> Metric:
    return Metric(name, title, "higher", words)


KNOWN = {
    one.name: one
    for one in (
        _known(
            "AP",
            "average precision",
            "How clean the alarms are, averaged over all thresholds from the strictest to the one that finds every "
            "anomaly pixel. Guessing gets the share of the anomaly pixels, so compare within one data set only.",
        ),
        _known(
            "AUROC",
            "area under the ROC curve",
            "How often a random anomaly pixel scores higher than a random normal pixel. Guessing gets 50 %. Where "
            "anomalies are rare it flatters: look at AP as well.",
        ),
        _known(
            "F1",
            "best F1",
            "Precision and recall in one number (their harmonic mean) at the threshold where it is largest. That "
            "threshold is picked with the ground truth at hand, so it is the best case.",
        ),
        _known(
            "mIoU",
            "mean intersection over union",
            "How well the ordinary classes are segmented: overlap of prediction and truth, averaged over the "
            "classes that occur and that the labels of the data set can name.",
        ),
        _known(
            "open mIoU",
            "open mean intersection over union",
            "The mean overlap of the ordinary classes once anomalies and alarms count as errors: the same as mIoU if "
            "every anomaly were found and no alarm were false.",
        ),
        _known(
            "AP-Error",
            "average precision of errors",
            "How well the score ranks pixels whose ordinary class is wrong before those where it is right.",
        ),
        _known(
            "AP-Success",
            "average precision of right classes",
            "How well low scores rank pixels whose ordinary class is right before those where it is wrong.",
        ),
        _known(
            "failure AUROC",
            "area under the ROC curve of errors",
            "How often a random pixel of the wrong class scores higher than a random one of the right class.",
        ),
        Metric(
            "failure FPR95",
            "false-positive rate at 95 % of the errors",
            "lower",
            "Share of the pixels of the right class that are doubted once 95 % of the wrong ones are.",
        ),
        _known(
            "instance AP",
            "average precision of instances",
            "How many anomalous objects are found one by one, and how few regions for nothing, averaged over ten "
            "demands on the overlap from 50 % to 95 %. Regions are the connected ones at the threshold of the best F1.",
        ),
        _known("instance AP50", "average precision of instances at 50 % overlap", "The most lenient of the ten."),
        _known("accuracy", "pixel accuracy", "Share of the pixels whose ordinary class is predicted correctly."),
        _known(
            "sIoU",
            "segment-wise intersection over union",
            "How much of each anomalous object is covered by the regions found on it, averaged over objects.",
        ),
        _known(
            "PPV",
            "positive predictive value of segments",
            "How much of each region that was found lies on an anomalous object, averaged over regions.",
        ),
        _known(
            "F1_mean",
            "mean F1 over objects",
            "Objects found against objects missed and regions found for nothing, averaged over eleven demands on the "
            "overlap from 25 % to 75 %.",
        ),
        Metric(
            "threshold",
            "threshold of the best F1",
            None,
            "The score at and above which a pixel counts as anomalous for the best F1, in the detector's own unit.",
            "score",
        ),
    )
}
COUNT = re.compile(r"(pixels|images|components)(_.*)?")
FALSE_POSITIVES = re.compile(r"FPR([\d.]+)")
F1_AT_OVERLAP = re.compile(r"F1@(\d+)")


def explain(name: str) -> Metric:
    """Return what is known about a metric of that name; one that is not known has no better direction.

    Example:
        >>> explain("FPR95").better, explain("AP").arrow, explain("my score").better
        ('lower', '↑', None)
    """
    if name in KNOWN:
        return KNOWN[name]
    if match := FALSE_POSITIVES.fullmatch(name):
        return _false_positives(name, match[1])
    if match := F1_AT_OVERLAP.fullmatch(name):
        title = f"F1 over objects at {match[1]} % overlap"
        return Metric(name, title, "higher", "One of the values that F1_mean is the mean of.", detail=True)
    if COUNT.fullmatch(name):
        return Metric(name, name.replace("_", " "), None, "", "count", detail=True)
    return Metric(name, name, None, "")


def _false_positives(name: str, recall: str) -> Metric:
    words = (
        f"Share of the normal pixels that raise an alarm once the threshold is low enough to find {recall} % of the "
        "anomaly pixels: what it costs to miss almost nothing."
    )
    return Metric(name, f"false-positive rate at {recall} % recall", "lower", words)
