"""From data to a finished model; losses, noise and experiments by themselves."""

from __future__ import annotations

import ctypes
import math
from ctypes import byref, c_double, c_void_p
from typing import Any, Callable, Mapping, Optional

import numpy as np
import numpy.typing as npt

from ._callbacks import run
from ._dataset import Dataset
from ._library import C, check
from ._model import Model
from ._records import ExperimentProgress, FitProgress, LossResult, VarianceModel, filled
from ._values import described, made_text, options, seed_of, taken_text


def fit(x: Dataset | npt.ArrayLike, y: Optional[npt.ArrayLike] = None, *, variances: Optional[npt.ArrayLike] = None,
        std: Optional[npt.ArrayLike] = None, groups: Optional[npt.ArrayLike] = None, missing_labels: str = "error",
        model: Optional[Mapping[str, Any]] = None, callback: Optional[Callable[[FitProgress], Any]] = None,
        **fields: Any) -> tuple[Model, dict[str, Any]]:
    """Makes a trained model with error bars, and nothing has to be tuned: ``model, report = fit(x, y, variances=v)``.

    Five networks are trained side by side, each on the rows outside a fold of its own; what they miss of the other rows
    gives the weights of the labels, the epoch to stop at and the size of the errors. The model predicts their mean,
    `Model.predict_with_variance` gives the error bars.

    Args:
        x: a `Dataset`, or features; then `y`, `variances`, `std`, `groups` and `missing_labels` are as for `Dataset`.
        model: describes one network, as for `Model`; by default a multi-layer perceptron with hidden layers of 100 and 50.
        callback: is called some ten times a second, on this thread, with a `FitProgress`. It stops the fit when it
            returns False or raises; what it raises comes out of here. So does a KeyboardInterrupt, which stops the fit.
        fields: the other options: `members`, `epochs`, `loss`, `batch_size`, `learning_rate`, `seed`, `device`,
            `checkpoint` ...; ``schema("fit")`` has them all.

    Returns:
        The model and a report. ``report["outputs"]`` has for each output the "variance_model", "rmse", "coverage_68" ... of
        held-out rows, in the labels' units; "warnings" is what you should know, "history" has each epoch. An infinite
        epsilon, which stands for equal weights, is ``inf``.

    Raises:
        Cancelled: the callback stopped the fit. With the option ``checkpoint="fit.biv"``, the same call goes on.
        InvalidError: options (``INVALID_CONFIG``), model and data that do not fit (``SHAPE``), fewer rows or groups than
            members (``INVALID_ARGUMENT``).
    """
    if isinstance(x, Dataset):
        if y is not None or variances is not None or std is not None or groups is not None or missing_labels != "error":
            raise ValueError("a Dataset has its labels: give only options beside it")
        data = x
    elif y is None:
        raise ValueError("give arrays x and y, or a Dataset")
    else:
        data = Dataset(x, y, variances=variances, std=std, groups=groups, missing_labels=missing_labels)
    network, text, made, report = options(model), options(fields), c_void_p(), c_void_p()
    stopped = run(lambda heard: C.biv_fit(network, data._handle, text, heard, None, byref(made), byref(report)),
                  FitProgress, callback)
    if stopped is not None:
        raise stopped
    return Model._of(made.value), with_infinity(taken_text(report.value))


def with_infinity(report: Any) -> Any:
    """The report with ``inf`` where an epsilon is infinite: JSON has null there."""
    if isinstance(report, list):
        return [with_infinity(value) for value in report]
    if not isinstance(report, dict):
        return report
    return {name: math.inf if value is None and name in ("epsilon", "training_epsilon", "epsilon_best")
            else with_infinity(value) for name, value in report.items()}


def variance_model(residuals: npt.ArrayLike, variances: npt.ArrayLike) -> VarianceModel:
    """What the residuals of any model, label minus prediction of rows that it has not seen, say of the variances that are
    known of the labels' noise: arrays of one length, the variances in the square of the residuals' unit.

    A residual has the variance ``scale * variance + tau2``, and weights for training are ``1 / (variance + epsilon)``.
    """
    arrays = described(residuals), described(variances)
    return filled(VarianceModel, lambda place: check(C.biv_variance_model_fit(*arrays, place)))


def loss(kind: Mapping[str, Any] | None, predictions: npt.ArrayLike, labels: npt.ArrayLike,
         variances: Optional[npt.ArrayLike] = None) -> LossResult:
    """The loss of a mini-batch and its gradient by the predictions, for a training loop of your own.

    Args:
        kind: ``{"kind": "biv", "epsilon": 0.1}``; ``schema("loss")`` has all. None is that.
        predictions: of shape (rows,) or (rows, outputs). For ``gaussian`` and ``beta_nll`` of shape (rows, 2 outputs):
            first the values, then the logarithms of the variances that come to the labels' own.
        labels: of shape (rows,) or (rows, outputs).
        variances: those of the labels' noise, of the labels' shape.
    """
    arrays = described(predictions), described(labels), described(variances)
    gradient = np.empty(arrays[0].kept.shape)
    out = described(gradient)
    return filled(LossResult, lambda place: check(C.biv_loss_compute(options(kind), *arrays, place, out)),
                  gradient=gradient)


def sample_noise(distribution: Mapping[str, Any], count: int, seed: int = 0) -> np.ndarray:
    """`count` noise variances of a distribution: ``sample_noise({"kind": "gamma", "alpha": 2, "beta": 0.5}, 100)``."""
    values = np.empty(count)
    check(C.biv_noise_sample(options(distribution), seed_of(seed), values.ctypes.data_as(ctypes.POINTER(c_double)), count))
    return values


def resolve_experiment(config: Mapping[str, Any] | str) -> dict[str, Any]:
    """An experiment's description, a dict or JSON, with every default filled in."""
    return made_text(lambda place: C.biv_experiment_resolve(options(config), place))


def run_experiment(config: Mapping[str, Any] | str,
                   callback: Optional[Callable[[ExperimentProgress], Any]] = None) -> dict[str, Any]:
    """Runs an experiment: ``run_experiment({"dataset": {"kind": "bike", "train_size": 7000}, "data": folder})``.

    `callback` is called after each mini-batch, on this thread; it stops the run (`Cancelled`) when it returns False.
    """
    return finished(C.biv_experiment_run, config, callback)


def run_sweep(config: Mapping[str, Any] | str,
              callback: Optional[Callable[[ExperimentProgress], Any]] = None) -> dict[str, Any]:
    """Runs a grid of experiments: ``run_sweep({"base": {...}, "grid": {"seeds": [1, 2], "losses": [...]}})``.

    `callback` is as for `run_experiment`.
    """
    return finished(C.biv_sweep_run, config, callback)


def finished(function: Any, config: Mapping[str, Any] | str, callback: Optional[Callable[[Any], Any]]) -> dict[str, Any]:
    """The result of a run that came to its end."""
    text, made = options(config), c_void_p()
    stopped = run(lambda heard: function(text, heard, None, byref(made)), ExperimentProgress, callback)
    if stopped is not None:
        raise stopped
    return taken_text(made.value)
