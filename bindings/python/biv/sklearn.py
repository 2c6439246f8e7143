"""An estimator for scikit-learn (1.6 or newer), which nothing else of the package needs.

    from biv.sklearn import BIVRegressor
    regressor = BIVRegressor().fit(X, y, y_variance=v)
    predictions, std = regressor.predict(X, return_std=True)
"""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ._fit import fit


class BIVRegressor(RegressorMixin, BaseEstimator):
    """A regressor that knows how noisy each label is, with error bars: `biv.fit` as an estimator.

    The parameters are the options of `biv.fit` under their names, and `hidden`. Those that are None have `fit`'s defaults.

    Args:
        hidden: the sizes of the hidden layers of the multi-layer perceptron.
        model: another network, as for `biv.Model`; `hidden` does not count then. ``"inputs"`` and ``"outputs"`` of a
            multi-layer perceptron are filled in.
        members: how many networks, each trained on the rows outside a fold of its own. 1 is cheaper.
        epochs: the number of epochs of an ordinary training, at most.
        batch_size: the number of rows in a mini-batch, at most; None for a twentieth of the rows, from 16 to 256.
        loss, learning_rate, optimizer, schedule, clip_norm, held_out, device, precision: see ``biv.schema("fit")``.
        random_state: the seed of weights, folds and mini-batches, a ``RandomState``, or None for another one each time.

    Attributes:
        model_: the `biv.Model`.
        report_: what the fit found, as of `biv.fit`; its ``"warnings"`` are what you should know.
        n_features_in_, feature_names_in_: as of every estimator.
    """

    def __init__(self, *, hidden: Sequence[int] | int = (100, 50), model: Optional[Mapping[str, Any]] = None, members: int = 5,
                 epochs: int = 100, batch_size: Optional[int] = None, learning_rate: float = 0.001,
                 loss: Optional[Mapping[str, Any]] = None, optimizer: Optional[Mapping[str, Any]] = None,
                 schedule: Optional[Mapping[str, Any]] = None, clip_norm: Optional[float] = None, held_out: float = 0.3,
                 device: str = "cpu", precision: str = "f32",
                 random_state: int | np.random.RandomState | None = None):
        self.hidden = hidden
        self.model = model
        self.members = members
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.loss = loss
        self.optimizer = optimizer
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.held_out = held_out
        self.device = device
        self.precision = precision
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, y_variance: Optional[npt.ArrayLike] = None,
            groups: Optional[npt.ArrayLike] = None) -> BIVRegressor:
        """Trains the networks.

        Args:
            X: features, of shape (rows, features).
            y: labels, of shape (rows,) or (rows, outputs).
            y_variance: the variances of the labels' noise, shaped as `y`, in the square of its unit; None where they are
                unknown. An infinite one masks its label. In a search or a cross-validation it is metadata:
                ``BIVRegressor().set_fit_request(y_variance=True)``.
            groups: an element for each row: rows of one group are held out together.
        """
        features, labels = validate_data(self, X, y, dtype=(np.float64, np.float32), multi_output=True, y_numeric=True,
                                         ensure_min_samples=2)
        if y_variance is not None:
            y_variance = check_array(y_variance, dtype=np.float64, ensure_2d=False, ensure_all_finite=False,
                                     input_name="y_variance")
        seed = int(check_random_state(self.random_state).randint(2**31))
        network = dict(self.model or {"kind": "mlp", "hidden": self.hidden})
        if network.get("kind") == "mlp":
            network = {"inputs": features.shape[1], "outputs": 1 if labels.ndim == 1 else labels.shape[1]} | network
        given = {name: value for name, value in self.get_params(deep=False).items()
                 if value is not None and name not in ("hidden", "model", "random_state")}
        given.setdefault("batch_size", min(max(16, len(features) // 20), 256))
        self.model_, self.report_ = fit(features, labels, variances=y_variance, groups=groups, model={"seed": seed} | network,
                                        seed=seed, **given)
        return self

    def predict(self, X: npt.ArrayLike, return_std: bool = False) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predicts the true values.

        Args:
            X: features, of shape (rows, features).
            return_std: whether to return the standard deviations of the predictions' errors too, in the labels' unit. They
                are those of the true values: a label's own noise comes to them.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        if not return_std:
            return self.model_.predict(X)
        predictions, variances = self.model_.predict_with_variance(X)
        return predictions, np.sqrt(variances)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
