"""Every pure function under its standard name.

Scores of class logits take logits (N, K, ...) and, most of them, a temperature, and return (N, ...), larger = more
anomalous. Scores of features, masks, samples or segments say in their docstrings what they take. Losses return a
mapping of named terms with ``total``. Metrics take scores and anomaly masks as arrays.
"""

from strays.detectors.boundary_suppression import class_boundaries, dilated_smoothing, suppressed_boundaries
from strays.detectors.combined import standardized_sum
from strays.detectors.densehybrid import densehybrid
from strays.detectors.dirichlet import (
    dirichlet_differential_entropy,
    dirichlet_expected_entropy,
    dirichlet_mutual_information,
    dirichlet_pairwise_kl,
    dirichlet_precision,
)
from strays.detectors.dispersion import dispersion
from strays.detectors.distillation_comparison import distillation_discrepancy
from strays.detectors.embedding_flow import flow_nll
from strays.detectors.embedding_flow_min import minimum_nll
from strays.detectors.embedding_flow_regression import regressed_nll
from strays.detectors.embedding_knn import mean_neighbour_distance, neighbour_disagreement
from strays.detectors.energy import energy
from strays.detectors.ensemble_anomaly import ensemble_anomaly
from strays.detectors.entropy import entropy
from strays.detectors.gaussian_mixture import gaussian_mixture_log_density
from strays.detectors.jsd import jsd_to_uniform
from strays.detectors.local_contrast import local_contrast
from strays.detectors.mahalanobis import mahalanobis, mahalanobis_distances
from strays.detectors.maskomaly import maskomaly
from strays.detectors.maskomaly_all import maskomaly_all
from strays.detectors.max_logit import max_logit
from strays.detectors.mc_dropout import (
    expected_entropy,
    expected_pairwise_kl,
    mutual_information,
    predictive_entropy,
    sample_variation,
)
from strays.detectors.msp import msp
from strays.detectors.nearest_neighbors import nearest_neighbors
from strays.detectors.nearest_neighbors_energy import nearest_neighbors_energy
from strays.detectors.odin import odin_step
from strays.detectors.outlier_probability import outlier_probability
from strays.detectors.outlier_probability_msp import outlier_probability_msp
from strays.detectors.pebal import blurred_energy
from strays.detectors.prototype_guided import nearest_prototype_distance
from strays.detectors.prototypes import cosine_confidence, cosine_logits, prototype_score
from strays.detectors.random_score import random_score
from strays.detectors.rejected_by_all import rejected_by_all
from strays.detectors.segment_features import adjusted_iou, dispersion_maps, segment_features
from strays.detectors.smoothed import gaussian_smoothed
from strays.detectors.softmax_distance import softmax_distance
from strays.detectors.standardized_max_logit import standardized_max_logit
from strays.detectors.void import void_probability
from strays.divergences import jensen_shannon_from_uniform
from strays.kernels.nearest import nearest
from strays.metrics import (
    auroc,
    average_precision,
    best_f1,
    component_overlaps,
    failure_mask,
    fpr_at_tpr,
    instance_outcomes,
    maximal_detection_margin,
    open_set_threshold,
)
from strays.objectives.cross_entropy import cross_entropy_loss
from strays.objectives.densehybrid import densehybrid_loss
from strays.objectives.dirichlet import dirichlet_loss
from strays.objectives.jsd import jsd_to_uniform_loss
from strays.objectives.max_entropy import max_entropy_loss
from strays.objectives.meta_entropy import meta_entropy_loss
from strays.objectives.outlier_head import label_shares, outlier_head_loss, outlier_targets, soft_cross_entropy
from strays.objectives.partial import partial_cross_entropy
from strays.objectives.pebal import pebal_loss
from strays.objectives.void_class import void_class_loss

__all__ = [
    "adjusted_iou",
    "auroc",
    "average_precision",
    "best_f1",
    "blurred_energy",
    "class_boundaries",
    "component_overlaps",
    "cosine_confidence",
    "cosine_logits",
    "cross_entropy_loss",
    "densehybrid",
    "densehybrid_loss",
    "dilated_smoothing",
    "dirichlet_differential_entropy",
    "dirichlet_expected_entropy",
    "dirichlet_loss",
    "dirichlet_mutual_information",
    "dirichlet_pairwise_kl",
    "dirichlet_precision",
    "dispersion",
    "dispersion_maps",
    "distillation_discrepancy",
    "energy",
    "ensemble_anomaly",
    "entropy",
    "expected_entropy",
    "expected_pairwise_kl",
    "failure_mask",
    "flow_nll",
    "fpr_at_tpr",
    "gaussian_mixture_log_density",
    "gaussian_smoothed",
    "instance_outcomes",
    "jensen_shannon_from_uniform",
    "jsd_to_uniform",
    "jsd_to_uniform_loss",
    "label_shares",
    "local_contrast",
    "mahalanobis",
    "mahalanobis_distances",
    "maskomaly",
    "maskomaly_all",
    "max_entropy_loss",
    "max_logit",
    "maximal_detection_margin",
    "mean_neighbour_distance",
    "meta_entropy_loss",
    "minimum_nll",
    "msp",
    "mutual_information",
    "nearest",
    "nearest_neighbors",
    "nearest_neighbors_energy",
    "nearest_prototype_distance",
    "neighbour_disagreement",
    "odin_step",
    "open_set_threshold",
    "outlier_head_loss",
    "outlier_probability",
    "outlier_probability_msp",
    "outlier_targets",
    "partial_cross_entropy",
    "pebal_loss",
    "predictive_entropy",
    "prototype_score",
    "random_score",
    "regressed_nll",
    "rejected_by_all",
    "sample_variation",
    "segment_features",
    "soft_cross_entropy",
    "softmax_distance",
    "standardized_max_logit",
    "standardized_sum",
    "suppressed_boundaries",
    "void_class_loss",
    "void_probability",
]
