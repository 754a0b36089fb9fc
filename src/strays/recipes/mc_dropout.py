"""A Bayesian network by dropout: trained with it, and asked many times with it."""

from strays.cards import Card
from strays.detectors.reported import FISHYSCAPES, reported
from strays.networks.extended import Extension
from strays.recipes.base import register_recipe
from strays.recipes.closed_set import ClosedSet

__all__ = ["McDropout"]

_NETWORK = "Bayesian DeepLab"


@register_recipe("mc-dropout")
class McDropout(ClosedSet):
    """Cross-entropy on the labelled pixels, half of the values in front of the network's last layers dropped.

    Reference:
        Mukhoti and Gal, Evaluating Bayesian Deep Learning Methods for Semantic Segmentation, 2018,
        https://arxiv.org/abs/1811.12709

    Args:
        class_weights, void: see ``Recipe``.
    """

    card = Card(
        title="MC dropout",
        summary="Cross-entropy with dropout in front of the last layers; passes with dropout on disagree on anomalies.",
        paper="Mukhoti and Gal, Evaluating Bayesian Deep Learning Methods for Semantic Segmentation, 2018",
        year=2018,
        url="https://arxiv.org/abs/1811.12709",
        published=(
            *reported("Fishyscapes Lost & Found test", {"AP": 0.0981, "FPR95": 0.3846}, _NETWORK, FISHYSCAPES),
            *reported("Fishyscapes Static test", {"AP": 0.4870, "FPR95": 0.1505}, _NETWORK, FISHYSCAPES),
            *reported("Fishyscapes Web October 2020", {"AP": 0.3580, "FPR95": 0.2567}, _NETWORK, FISHYSCAPES),
            *reported("Cityscapes", {"mIoU": 0.738}, _NETWORK, "as listed beside the Fishyscapes numbers"),
        ),
        notes="Learns without negatives. The training code of the published network is not public; where values are "
        "dropped is our choice: behind the spatial pyramid pooling and behind the decoder of SwiftNet, behind the "
        "decoder of other networks. ERFNet and ENet have dropout of their own: for these closed-set is enough, and "
        "mutual-information reads what it trains. One image costs as many passes as are asked for, of what comes "
        "after the first dropout only. The SynBoost paper has 15.50 as FPR95 on Fishyscapes Static.",
    )
    detector = "mutual-information"
    extension = Extension(dropout=0.5)
