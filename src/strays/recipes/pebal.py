"""PEBAL: abstention and energy, learnt from pasted negatives."""

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from strays.cards import Card, Needs
from strays.detectors import pebal
from strays.detectors.energy import energy
from strays.detectors.reported import reported
from strays.errors import InputError
from strays.networks.base import TrainingOutputs
from strays.networks.extended import Extension
from strays.objectives.inputs import at_labels, inlier_pixels
from strays.objectives.pebal import OutlierAbstention, Smoothness, Sparsity, pebal_loss
from strays.recipes.base import Recipe, register_recipe
from strays.specs import Value

__all__ = ["Margins", "Pebal"]

Margins = Literal["calibrated", "fixed"]

_NETWORK = "DeepLabV3+ WideResNet-38, trained with PEBAL"


@register_recipe("pebal")
class Pebal(Recipe):
    """Pixel-wise energy-biased abstention learning: one more channel to abstain, and energies kept apart by margins.

    The published margins belong to a network with energies around -12. One with higher energies would be driven to
    where they are 0, as the penalty of abstention vanishes there; so, by default, a constant is added to all logits
    before the loss, which moves the margins along with the network and keeps the penalty as large as it was meant.

    Reference:
        Tian et al., Pixel-wise Energy-biased Abstention Learning for Anomaly Segmentation on Complex Urban Driving
        Scenes, ECCV 2022, https://arxiv.org/abs/2111.12264

    Args:
        class_weights: (K,) weights of the classes, or None.
        void: K, the index of the channel for abstention, or None.
        margins: ``calibrated`` measures energies from an origin of their own, such that the mean energy of labelled
            pixels of the scenes, before the network is trained, is m_in; ``fixed`` takes them as they are, which fits
            networks with energies of about -20 to -10.
        m_in, m_out: the margins of the energies of inliers and of negatives, m_in < m_out.
        detach_penalty, blur_penalty, outlier_abstention, smoothness, sparsity: see ``pebal_loss``.
        outlier_weight, energy_weight, sparsity_weight, smoothness_weight: see ``pebal_loss``.

    Raises:
        InputError: if an option is none of its words, a weight is out of range, or m_in is not below m_out.
    """

    card = Card(
        title="PEBAL",
        summary="Learns to abstain where the energy is high, and pushes the energies of inliers and negatives apart.",
        paper="Tian et al., Pixel-wise Energy-biased Abstention Learning for Anomaly Segmentation on Complex Urban "
        "Driving Scenes, ECCV 2022",
        year=2022,
        url="https://arxiv.org/abs/2111.12264",
        needs=Needs(negatives=True),
        published=(
            *pebal.Pebal.card.published,
            *reported("Cityscapes test", {"mIoU": 0.8119}, _NETWORK, "test server, as the RPL repository lists it"),
        ),
        notes="The loss is that of the released code. Published training: the last decoder block only (the statistics "
        "of the other batch norms moving along), Adam at 1e-5 without weight decay, poly schedule, 40 epochs of 2975 "
        "images and 297 with objects of COCO, batches of 8, crops of 900 x 900, no warm-up and no clipping. Ours: "
        "energies calibrated to the network (margins=fixed takes them as they are), class weights in the abstention of "
        "inliers, half of the crops with negatives, all blocks (--trained names some), and a rate for runs of minutes. "
        "The smoothness is a sum and the sparsity a norm over the batch: they grow with the crops, and shrink where "
        "--accumulate or several processes part a batch.",
    )
    detector = "pebal"
    extension = Extension(extra_channel=True)
    defaults: ClassVar[Mapping[str, object]] = {
        "epochs": 15,
        "optimizer": "adam",
        "schedule": "poly",
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
    }

    inlier_energy: Tensor

    def __init__(
        self,
        class_weights: Tensor | None = None,
        void: int | None = None,
        margins: Margins = "calibrated",
        m_in: float = -12.0,
        m_out: float = -6.0,
        detach_penalty: bool = False,
        blur_penalty: bool = True,
        outlier_abstention: OutlierAbstention = "classes",
        smoothness: Smoothness = "squared",
        sparsity: Sparsity = "norm",
        outlier_weight: float = 0.1,
        energy_weight: float = 0.1,
        sparsity_weight: float = 5e-4,
        smoothness_weight: float = 3e-6,
    ) -> None:
        super().__init__(class_weights, void)
        if margins not in ("calibrated", "fixed"):
            raise InputError(f"margins is {margins!r}, expected calibrated or fixed")
        if not -math.inf < m_in < m_out < math.inf:
            raise InputError(f"expected m_in below m_out, got {m_in} and {m_out}: the published ones are -12 and -6")
        self.margins, self.m_in, self.m_out = margins, float(m_in), float(m_out)
        self.loss = partial(
            pebal_loss,
            detach_penalty=detach_penalty,
            blur_penalty=blur_penalty,
            outlier_abstention=outlier_abstention,
            smoothness=smoothness,
            sparsity=sparsity,
            outlier_weight=outlier_weight,
            energy_weight=energy_weight,
            sparsity_weight=sparsity_weight,
            smoothness_weight=smoothness_weight,
        )
        nothing = torch.zeros(1, 4, 4, dtype=torch.long)
        self.loss(torch.zeros(1, 2, 4, 4), nothing, nothing)  # refuses a wrong option at once
        self.register_buffer("inlier_energy", torch.tensor(self.m_in))

    def settings(self) -> dict[str, Value]:
        """Return the margins and the options and weights of the loss."""
        return {"margins": self.margins, "m_in": self.m_in, "m_out": self.m_out, **self.loss.keywords}

    @torch.no_grad()
    def calibrate(self, batches: Iterable[tuple[TrainingOutputs, Tensor, Tensor]]) -> None:
        """Keep the mean energy of labelled pixels of the scenes, where the margins are calibrated.

        Raises:
            InputError: if there is no such pixel, or their energies are not finite.
        """
        if self.margins == "fixed":
            return
        energies = [
            energy(at_labels(outputs["logits"][:, :-1], labels).double())[inlier_pixels(labels, mask)]
            for outputs, labels, mask in batches
        ]
        mean = torch.cat(energies).mean() if energies else self.inlier_energy * torch.nan
        if not mean.isfinite():
            raise InputError(
                "margins=calibrated needs labelled pixels with finite energies, and there are none: check data and "
                "weights, or take margins=fixed"
            )
        self.inlier_energy.copy_(mean)

    def losses(self, outputs: TrainingOutputs, labels: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Return the terms of ``pebal_loss``; see ``Recipe.losses``."""
        logits = at_labels(outputs["logits"], labels)
        if self.margins == "calibrated":
            logits = logits + (self.inlier_energy - self.m_in)
        return self.loss(logits, labels, mask, self.m_in, self.m_out, self.class_weights)
