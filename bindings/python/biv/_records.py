"""What the library reports: tuples with names, and the C structs that they come from."""

import ctypes
from ctypes import c_char_p, c_double, c_int32, c_int64, c_size_t
from typing import Any, Callable, Literal, NamedTuple, Optional, get_args, get_type_hints

import numpy as np


class DatasetInfo(NamedTuple):
    """The sizes of a data set."""

    rows: int
    #: The number of feature values in a row.
    features: int
    #: The number of labels in a row.
    outputs: int
    has_variances: bool
    #: Whether the labels have simulated noise and those before it are kept beside them.
    has_clean_labels: bool
    #: How many damaged images, or rows with an empty field, were left out when the data were read.
    left_out: int
    #: How many labels are missing, or of infinite variance.
    masked_labels: int


class ModelInfo(NamedTuple):
    """The sizes of a model."""

    #: The number of feature values in a row.
    inputs: int
    #: The number of predictions for a row.
    outputs: int
    #: The number of trainable values.
    parameters: int
    #: Whether the model has a normalisation, which its predictions undo.
    normalized: bool


class Step(NamedTuple):
    """What one step did. For several networks: means over them."""

    #: The mini-batch's loss before the step, in normalised units.
    loss: float
    #: ``(sum w)^2 / sum w^2`` of the rows' weights w: from 1 to the number of rows.
    effective_batch_size: float
    #: The epsilon that was used, in normalised units; 0 for a loss without one.
    epsilon: float
    rows: int
    #: How many rows have a weight that is not 0.
    samples_used: int
    #: The learning rate of the step, as the schedule had it.
    learning_rate: float


class Metrics(NamedTuple):
    """Errors of predictions on a data set; with several outputs, means over them. Masked labels do not count."""

    rows: int
    #: Mean squared error, in the square of the labels' unit.
    mse: float
    #: The square root of mse, in the labels' unit.
    rmse: float
    #: Mean absolute error, in the labels' unit.
    mae: float
    #: Coefficient of determination; NaN where the labels are constant.
    r2: float
    normalized_mse: float
    normalized_rmse: float
    normalized_mae: float
    #: As rmse, each label weighted by what is known of its noise. Without variances, rmse.
    weighted_rmse: float
    #: What rmse would be if the predictions were perfect. NaN without variances.
    expected_rmse: float
    #: The mean of error^2 / variance: 1 for error bars of the right size. NaN where the model has none.
    mean_z2: float
    #: The mean negative log density of the labels, in nats. NaN as mean_z2.
    nlpd: float
    #: The share of the labels within the central 68 % of their distribution. NaN as mean_z2.
    coverage_68: float
    #: The share of the labels within the central 95 %. NaN as mean_z2.
    coverage_95: float


class Epoch(NamedTuple):
    """What one epoch did."""

    #: The number of epochs completed, this one included.
    epoch: int
    #: The number of mini-batches, the skipped ones included.
    batches: int
    #: How many mini-batches were skipped because the cutoff left them no label.
    skipped: int
    #: The mean loss of the other mini-batches, in normalised units.
    loss: float
    effective_batch_size: float
    #: The errors on the test set; None where none was given.
    test: Optional[Metrics]
    #: The weighted mean squared error on the validation set, in normalised units; NaN without one.
    validation_loss: float
    #: The number of the epoch of the least validation_loss so far; 0 without a validation set.
    best_epoch: int
    learning_rate: float


class Progress(NamedTuple):
    """How far training has come."""

    #: The number of epochs completed.
    epoch: int
    #: The number of mini-batches taken from the epoch in progress.
    batch: int
    #: The number of steps taken.
    steps: int
    #: The loss of the last step, in normalised units; 0 before the first.
    loss: float
    #: Whether a fit is running.
    running: bool


class FitProgress(NamedTuple):
    """How far a fit has come."""

    #: The number of epochs completed.
    epoch: int
    epochs: int
    #: The number of mini-batches taken, of all networks.
    steps: int
    total_steps: int
    #: The last loss on held-out rows, in normalised units; NaN before the first.
    held_out_loss: float
    #: The last epsilon of training for the first output: infinite for equal weights, NaN before the first.
    epsilon: float
    #: Whether the final network of ``members=1`` is trained, on all rows.
    is_final: bool


Stage = Literal["loading", "training", "sweep"]


class ExperimentProgress(NamedTuple):
    """How far an experiment or a sweep has come."""

    #: What done and total count: images (loading), mini-batches (training) or runs (sweep).
    stage: Stage
    #: The name of the run.
    run: str
    done: int
    total: int
    epoch: int
    epochs: int
    #: The mean training loss of the present epoch so far, in normalised units; NaN where there is none.
    loss: float
    #: The last RMSE on the test set, in the labels' unit; NaN before the first.
    rmse: float
    samples_per_second: float
    seconds_left: float


Verdict = Literal["profile", "floor", "paule-mandel", "mse", "too-few-rows", "equal-variances", "zero-residuals"]


class VarianceModel(NamedTuple):
    """What residuals say of known variances: the variance of a residual is ``scale * variance + tau2``."""

    #: Weights for training are ``1 / (variance + epsilon)``; infinite for equal weights.
    epsilon: float
    #: How much of the variances that were given is there: at most 1; 0 where they say nothing.
    scale: float
    #: The part of the residuals' variance that the variances do not explain.
    tau2: float
    #: Paule and Mandel's estimate of tau2 at scale 1.
    tau2_pm: float
    #: The epsilon of the greatest likelihood; it may be infinite.
    epsilon_best: float
    #: The smallest epsilon that was tried.
    epsilon_floor: float
    #: By how much the greatest log likelihood exceeds that of equal weights, per row, in nats.
    gain: float
    #: The standard error of gain.
    gain_se: float
    #: The mean of ``residual^2 / (scale * variance + tau2)``.
    mean_z2: float
    #: How many rows counted: those of infinite variance do not.
    rows: int
    #: Why epsilon is what it is.
    verdict: Verdict
    #: What you should know; None where all is well.
    warning: Optional[str]


class LossResult(NamedTuple):
    """The value of a loss on a mini-batch."""

    value: float
    #: ``(sum w)^2 / sum w^2`` of the rows' weights w.
    effective_batch_size: float
    #: The epsilon that was used, in the unit of the variances.
    epsilon: float
    #: How many rows have a weight that is not 0.
    samples_used: int
    #: The derivative of the loss by each prediction, of the predictions' shape.
    gradient: np.ndarray


C_TYPES = {int: c_int64, float: c_double, bool: c_int32, str: c_char_p, Optional[str]: c_char_p, Stage: c_int32,
           Verdict: c_int32}
NUMBERED = {Stage: get_args(Stage), Verdict: get_args(Verdict)}


def c_struct(record: type, name: str, others: dict[str, Any]) -> Any:
    """The C struct `name` of a record's fields. `others` has the C types of fields of other types, or None for a field
    that the struct does not have."""
    hints = get_type_hints(record)
    fields = [(field, others[field] if field in others else C_TYPES[hint]) for field, hint in hints.items()]
    fields = [("struct_size", c_size_t)] + [field for field in fields if field[1] is not None]
    return type(name, (ctypes.Structure,), {"_fields_": fields, "record": record, "hints": hints})


METRICS = c_struct(Metrics, "biv_metrics", {})
STRUCTS = {
    record: c_struct(record, name, others) for record, name, others in [
        (DatasetInfo, "biv_dataset_info", {}), (ModelInfo, "biv_model_info", {}), (Step, "biv_step", {}),
        (Epoch, "biv_epoch", {"test": ctypes.POINTER(METRICS)}), (Progress, "biv_progress", {}),
        (FitProgress, "biv_fit_progress", {}), (ExperimentProgress, "biv_experiment_progress", {}),
        (VarianceModel, "biv_variance_model", {}), (LossResult, "biv_loss_result", {"gradient": None}),
    ]
} | {Metrics: METRICS}


def value_of(hint: Any, value: Any) -> Any:
    """A field's value in Python."""
    if hint in NUMBERED:
        return NUMBERED[hint][value - 1]
    if hint == Optional[Metrics]:
        return record_of(value.contents) if value else None
    if isinstance(value, bytes):
        return value.decode()
    return bool(value) if hint is bool else value


def record_of(struct: Any, **others: Any) -> Any:
    """The record of a struct; `others` has the fields that the struct does not have."""
    return struct.record(*(others[name] if name in others else value_of(hint, getattr(struct, name))
                           for name, hint in struct.hints.items()))


def filled(record: type, fill: Callable[[Any], None], **others: Any) -> Any:
    """The record whose struct `fill` fills."""
    struct = STRUCTS[record](struct_size=ctypes.sizeof(STRUCTS[record]))
    fill(ctypes.byref(struct))
    return record_of(struct, **others)
