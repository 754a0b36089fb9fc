"""Models as tensors, against the scikit-learn models that they stand for."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from strays.detectors.meta_models import (
    Linear,
    MetaModel,
    Trees,
    fit_boosted_classifier,
    fit_boosted_regressor,
    fit_linear,
    fit_logistic,
    fit_selected_logistic,
    scaling_of,
)
from strays.errors import InputError

Array = NDArray[np.float64]


def rows_and_targets(count: int = 300, features: int = 7, seed: int = 0) -> tuple[Array, Array]:
    """Rows with scales of their own; the target depends on features 0 and 2 alone."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, features)) * np.logspace(-2, 4, features) + 5
    z = (rows - rows.mean(0)) / rows.std(0)
    return rows, 2 * z[:, 0] - 1.5 * z[:, 2] + rng.normal(size=count) * 0.5


def response(model: Linear | Trees, rows: Array) -> Array:
    """The response by way of the module that keeps the model."""
    kept = MetaModel(type(model))
    assert not kept.is_fitted
    kept.take(model)
    assert kept.is_fitted
    return kept.response(rows)


def test_scaling_is_the_z_score_and_leaves_constants_alone() -> None:
    rows = rows_and_targets()[0]
    rows[:, 3] = 0.1
    scaling = scaling_of(rows)
    np.testing.assert_allclose(np.delete(scaling(rows), 3, 1), StandardScaler().fit_transform(np.delete(rows, 3, 1)))
    assert scaling.scale[3] == 1
    np.testing.assert_allclose(scaling(rows)[:, 3], 0, atol=1e-12)


def test_liblinear_responds_as_scikit_learn() -> None:
    rows, values = rows_and_targets()
    targets = values > 0.5
    expected = make_pipeline(StandardScaler(), LogisticRegression(solver="liblinear", random_state=0)).fit(
        rows, targets
    )
    got = expit(response(fit_logistic(rows, targets, scaling_of(rows)), rows))
    np.testing.assert_allclose(got, expected.predict_proba(rows)[:, 1], rtol=1e-10)


def test_linear_regression_predicts_as_scikit_learn() -> None:
    rows, values = rows_and_targets()
    got = response(fit_linear(rows, values, scaling_of(rows)), rows)
    np.testing.assert_allclose(got, LinearRegression().fit(rows, values).predict(rows), rtol=1e-9, atol=1e-9)


def test_selection_keeps_what_matters_and_refits_it_without_penalty() -> None:
    rows, values = rows_and_targets(600)
    targets = values + np.random.default_rng(1).normal(size=600) > 0.5
    model = fit_selected_logistic(rows, targets, scaling_of(rows))
    selected = model.coefficients.numpy() != 0
    assert selected[[0, 2]].all()
    plain = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(scaling_of(rows)(rows)[:, selected], targets)
    np.testing.assert_allclose(model.coefficients[torch.from_numpy(selected)], plain.coef_[0], rtol=0.05, atol=0.02)
    assert float(model.coefficients[0]) > 1 > -0.8 > float(model.coefficients[2])


def test_selection_learns_something_where_nothing_can_be_learnt() -> None:
    rng = np.random.default_rng(0)
    rows, targets = rng.normal(size=(60, 5)), rng.random(60) < 0.3
    assert np.ptp(response(fit_selected_logistic(rows, targets, scaling_of(rows)), rows)) > 0


@pytest.mark.parametrize("rare", [1, 2])
def test_selection_copes_with_a_kind_too_rare_to_be_split(rare: int) -> None:
    rows, _ = rows_and_targets(30)
    targets = np.arange(30) < rare
    got = response(fit_selected_logistic(rows, targets, scaling_of(rows)), rows)
    assert np.isfinite(got).all()
    assert got[targets].min() > got[~targets].mean()


@pytest.mark.parametrize("count", [15, 400])
def test_boosted_classifier_gives_the_probabilities_of_scikit_learn(count: int) -> None:
    rows, values = rows_and_targets(count)
    targets = values > 0.5
    settings = {"max_iter": 100, "max_depth": 3, "early_stopping": False, "random_state": 0}
    expected = HistGradientBoostingClassifier(**settings).fit(rows, targets)
    fresh = np.concatenate([rows, rows_and_targets(200, seed=1)[0]])
    got = expit(response(fit_boosted_classifier(rows, targets), fresh))
    np.testing.assert_allclose(got, expected.predict_proba(fresh)[:, 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [15, 400])
def test_boosted_regressor_gives_the_predictions_of_scikit_learn(count: int) -> None:
    rows, values = rows_and_targets(count)
    settings = {"max_iter": 100, "max_depth": 3, "early_stopping": False, "random_state": 0}
    expected = HistGradientBoostingRegressor(**settings).fit(rows, values)
    fresh = np.concatenate([rows, rows_and_targets(200, seed=1)[0]])
    got = response(fit_boosted_regressor(rows, values), fresh)
    np.testing.assert_allclose(got, expected.predict(fresh), rtol=0, atol=1e-12)


def test_trees_give_nan_for_rows_with_nan_and_nothing_for_no_rows() -> None:
    rows, values = rows_and_targets(200)
    model = fit_boosted_regressor(rows, values)
    rows[3, 5] = np.nan
    got = response(model, rows)
    assert np.isnan(got).nonzero()[0].tolist() == [3]
    assert response(model, rows[:0]).shape == (0,)


@pytest.mark.parametrize(
    "fit", [fit_boosted_regressor, lambda rows, values: fit_linear(rows, values, scaling_of(rows))]
)
def test_another_number_of_features_is_an_error(fit) -> None:
    rows, values = rows_and_targets(50)
    with pytest.raises(InputError, match="fitted to segments with 7 features, got 6"):
        response(fit(rows, values), rows[:, :6])
