"""Models of segments as plain tensors: fitted by scikit-learn, kept and evaluated without it."""

import inspect
import warnings
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit
from torch import Tensor, nn

from strays.errors import InputError

__all__ = [
    "Linear",
    "MetaModel",
    "Scaling",
    "Trees",
    "fit_boosted_classifier",
    "fit_boosted_regressor",
    "fit_linear",
    "fit_logistic",
    "fit_selected_logistic",
    "scaling_of",
]

Array = NDArray[np.float64]
Truth = NDArray[np.bool_]

_STRENGTHS = np.logspace(-4.2, 0.8, 5)
_SELECTED = 1e-6
_SPLITS = 10
_HALF = 20_000
_TREES, _DEPTH = 100, 3


class Linear(NamedTuple):
    """A linear model of standardised features: intercept + sum_f coefficient_f (x_f - mean_f) / scale_f.

    Args:
        mean, scale, coefficients: (F,) float64.
        intercept: () float64.
    """

    mean: Tensor
    scale: Tensor
    coefficients: Tensor
    intercept: Tensor

    @property
    def width(self) -> int:
        """The number F of features."""
        return len(self.mean)

    def response(self, rows: Tensor) -> Tensor:
        """Return the value (n,) for rows (n, F), all float64: log-odds of a classifier, else the prediction."""
        return (rows - self.mean) / self.scale @ self.coefficients + self.intercept


class Trees(NamedTuple):
    """A sum of T binary regression trees, padded to M nodes; a leaf is its own child.

    Args:
        left, right, feature: (T, M) int64; a row goes left where its feature is at most the threshold.
        threshold, value: (T, M) float64.
        initial: () float64, what the trees are added to.
        features: () int64, the number F of features.
    """

    left: Tensor
    right: Tensor
    feature: Tensor
    threshold: Tensor
    value: Tensor
    initial: Tensor
    features: Tensor

    @property
    def width(self) -> int:
        """The number F of features."""
        return int(self.features)

    def response(self, rows: Tensor) -> Tensor:
        """Return the value (n,) for rows (n, F), all float64: log-odds of a classifier, else the prediction.

        A row with NaN gives NaN.
        """
        tree = torch.arange(len(self.left), device=rows.device)
        node = torch.zeros(len(rows), len(self.left), dtype=torch.long, device=rows.device)
        moving = True
        while moving:
            goes_left = rows.gather(1, self.feature[tree, node]) <= self.threshold[tree, node]
            child = torch.where(goes_left, self.left[tree, node], self.right[tree, node])
            moving, node = not torch.equal(child, node), child
        total = self.initial + self.value[tree, node].sum(1)
        return total.masked_fill(rows.isnan().any(1), torch.nan)


class MetaModel(nn.Module):
    """A place for a ``Linear`` or ``Trees`` in a detector: buffers that are None until it takes one.

    Args:
        kind: which of the two.
    """

    def __init__(self, kind: type[Linear] | type[Trees]) -> None:
        super().__init__()
        self.kind = kind
        for name in kind._fields:
            self.register_buffer(name, None)

    @property
    def is_fitted(self) -> bool:
        """Whether it has taken a model."""
        return bool(self.state_dict())

    def take(self, model: Linear | Trees) -> None:
        """Keep a model."""
        for name, value in model._asdict().items():
            setattr(self, name, value)

    def response(self, rows: Array) -> Array:
        """Return the value (n,) of the model for rows (n, F).

        Raises:
            InputError: if it was fitted to another number of features.
        """
        tensors = dict(self.named_buffers())
        model = self.kind(**tensors)
        if rows.shape[1] != model.width:
            raise InputError(
                f"fitted to segments with {model.width} features, got {rows.shape[1]}: the network has another number "
                "of classes than the one it was fitted on; fit it again"
            )
        on_device = torch.from_numpy(rows).to(next(iter(tensors.values())).device)
        values: Array = model.response(on_device).cpu().numpy()
        return values


class Scaling(NamedTuple):
    """Mean and standard deviation (F,) of each feature; a constant one has scale 1."""

    mean: Array
    scale: Array

    def __call__(self, rows: Array) -> Array:
        """Return rows (n, F) as z-scores."""
        return (rows - self.mean) / self.scale


def scaling_of(rows: Array) -> Scaling:
    """Return mean and population standard deviation of the features of rows (n, F)."""
    deviation = rows.std(0)
    varies = deviation > 1e-10 * np.abs(rows).max(0)
    return Scaling(rows.mean(0), np.where(varies, deviation, 1.0))


def fit_selected_logistic(rows: Array, targets: Truth, scaling: Scaling) -> Linear:
    """Return a logistic regression on the features that an L1 penalty selects, fitted to these without penalty.

    The penalty is one of five, C = 10^-4.2 to 10^0.8: the one with the largest mean AUROC on the held-out halves of 10
    random splits, among those that select anything; the strongest of several such.

    Args:
        rows: (n, F) features.
        targets: (n,), with both values; ``response`` is the log-odds of True.
        scaling: of the features.

    Source: Rottmann et al., IJCNN 2020, and its released code: SAGA, 1000 iterations, tolerance 1e-3. That code takes
    the accuracy in place of the AUROC.
    """
    scores = scaling(rows)
    chosen = [(strength, np.abs(_saga(scores, targets, strength).coef_[0]) > _SELECTED) for strength in _STRENGTHS]
    usable = [(strength, features) for strength, features in chosen if features.any()]
    if not usable:
        usable = [(np.inf, np.ones(scores.shape[1], np.bool_))]
    aurocs = [_held_out_auroc(scores, targets, strength) for strength, _ in usable] if len(usable) > 1 else [0.0]
    features = usable[int(np.argmax(aurocs))][1]
    plain = _saga(scores[:, features], targets, np.inf)
    coefficients = np.zeros(scores.shape[1])
    coefficients[features] = plain.coef_[0]
    return _linear(scaling, coefficients, plain.intercept_[0])


def _held_out_auroc(scores: Array, targets: Truth, strength: float) -> float:
    """Return the mean AUROC over random halves; 0 where one kind is too rare to be in both."""
    if min(targets.sum(), (~targets).sum()) < 2:
        return 0.0
    half = min(len(targets) // 2, _HALF)
    splits = StratifiedShuffleSplit(_SPLITS, train_size=half, test_size=half, random_state=0)
    found = []
    for seen, held in splits.split(scores, targets):
        model = _saga(scores[seen], targets[seen], strength)
        found.append(roc_auc_score(targets[held], model.decision_function(scores[held])))
    return float(np.mean(found))


# scikit-learn 1.8 gives the ratio of the L1 penalty in place of the penalty's name.
_PENALTY_HAS_NAME = inspect.signature(LogisticRegression).parameters["l1_ratio"].default is None


def _saga(scores: Array, targets: Truth, strength: float) -> LogisticRegression:
    """Return a logistic regression with an L1 penalty, without one where the strength is infinite."""
    penalised = bool(np.isfinite(strength))
    penalty: dict[str, float | str | None] = {"C": strength, "l1_ratio": float(penalised)}
    if _PENALTY_HAS_NAME:
        penalty = {"C": strength, "penalty": "l1"} if penalised else {"penalty": None}
    model = LogisticRegression(solver="saga", max_iter=1000, tol=1e-3, random_state=0, **penalty)
    with warnings.catch_warnings():
        # The published number of iterations is part of the method, converged or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(scores, targets)


def fit_logistic(rows: Array, targets: Truth, scaling: Scaling) -> Linear:
    """Return a logistic regression with the L2 penalty C = 1 by liblinear; ``response`` is the log-odds of True."""
    model = LogisticRegression(solver="liblinear", random_state=0).fit(scaling(rows), targets)
    return _linear(scaling, model.coef_[0], model.intercept_[0])


def fit_linear(rows: Array, targets: Array, scaling: Scaling) -> Linear:
    """Return the least-squares regression of targets (n,) on rows (n, F)."""
    model = LinearRegression().fit(scaling(rows), targets)
    return _linear(scaling, model.coef_, model.intercept_)


def _linear(scaling: Scaling, coefficients: Array, intercept: float) -> Linear:
    mean, scale, weights = (torch.tensor(one, dtype=torch.float64) for one in (*scaling, coefficients))
    return Linear(mean, scale, weights, torch.tensor(intercept, dtype=torch.float64))


def fit_boosted_classifier(rows: Array, targets: Truth) -> Trees:
    """Return 100 gradient-boosted trees of depth 3; ``response`` is the log-odds of True."""
    model = HistGradientBoostingClassifier(max_iter=_TREES, max_depth=_DEPTH, early_stopping=False, random_state=0)
    return _trees(model.fit(rows, targets))


def fit_boosted_regressor(rows: Array, targets: Array) -> Trees:
    """Return 100 gradient-boosted trees of depth 3, fitted to targets (n,) by least squares."""
    model = HistGradientBoostingRegressor(max_iter=_TREES, max_depth=_DEPTH, early_stopping=False, random_state=0)
    return _trees(model.fit(rows, targets))


def _trees(model: HistGradientBoostingClassifier | HistGradientBoostingRegressor) -> Trees:
    # scikit-learn shows these trees to nobody; a test compares what comes out with its own predictions.
    nodes = [predictor.nodes for (predictor,) in model._predictors]
    width = max(map(len, nodes))
    padded = np.zeros((len(nodes), width), nodes[0].dtype)
    padded["is_leaf"] = True
    for tree, its_nodes in zip(padded, nodes, strict=True):
        tree[: len(its_nodes)] = its_nodes
    leaf = padded["is_leaf"].astype(np.bool_)
    left, right = (np.where(leaf, np.arange(width), padded[side].astype(np.int64)) for side in ("left", "right"))
    return Trees(
        left=torch.from_numpy(left),
        right=torch.from_numpy(right),
        feature=torch.from_numpy(np.where(leaf, 0, padded["feature_idx"]).astype(np.int64)),
        threshold=torch.from_numpy(np.where(leaf, 0.0, padded["num_threshold"])),
        value=torch.from_numpy(padded["value"].astype(np.float64)),
        initial=torch.tensor(float(np.ravel(model._baseline_prediction)[0]), dtype=torch.float64),
        features=torch.tensor(model.n_features_in_),
    )
