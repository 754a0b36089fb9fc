"""Every pure function under its standard name.

Scores take class logits (N, K, ...) and a temperature and return (N, ...), larger = more anomalous. Losses return a
mapping of named terms with ``total``. Metrics take scores and anomaly masks as arrays.
"""

from strays.detectors.energy import energy
from strays.detectors.entropy import entropy
from strays.detectors.jsd import jsd_to_uniform
from strays.detectors.max_logit import max_logit
from strays.detectors.msp import msp
from strays.detectors.softmax_distance import softmax_distance
from strays.detectors.void import void_probability
from strays.metrics import auroc, average_precision, best_f1, component_overlaps, fpr_at_tpr
from strays.objectives.cross_entropy import cross_entropy_loss

__all__ = [
    "auroc",
    "average_precision",
    "best_f1",
    "component_overlaps",
    "cross_entropy_loss",
    "energy",
    "entropy",
    "fpr_at_tpr",
    "jsd_to_uniform",
    "max_logit",
    "msp",
    "softmax_distance",
    "void_probability",
]
