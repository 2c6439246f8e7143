"""Models."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Optional

import numpy as np
import numpy.typing as npt

from ._dataset import Dataset
from ._library import C, check, handle_from
from ._object import Object
from ._records import Metrics, ModelInfo, filled
from ._values import (column, copied, copied_bytes, copied_json, described, handed_over, made_text, names_of, options, path_of)


class Normalization(NamedTuple):
    """What a model subtracts from its features and divides them by, and the same of the labels."""

    feature_mean: np.ndarray
    feature_std: np.ndarray
    label_mean: np.ndarray
    label_std: np.ndarray


class ErrorBars(NamedTuple):
    """What a fit found of a model's errors, with an element for each output."""

    #: How much of the labels' known variances is there.
    scale: np.ndarray
    #: The variance of the residuals beyond them, in the square of the labels' unit.
    tau2: np.ndarray
    #: The mean variance between the networks, in the square of the labels' unit.
    mean_spread: np.ndarray


class Model(Object):
    """A network with the normalisation of the data it was trained on: ``Model(kind="mlp", inputs=10, hidden=[32, 16])``.

    A new one has initial weights, which the option `seed` determines. ``schema("model")`` describes every option. A model
    can be copied and pickled.
    """

    _free = "biv_model_free"

    def __init__(self, **fields: Any):
        self._own(handle_from(lambda place: C.biv_model_create(options(fields), place)))

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes) -> Model:
        """The model that `save` saved, to a file or as bytes, or the one in a trainer's checkpoint."""
        if isinstance(source, (bytes, bytearray, memoryview)):
            content = bytes(source)
            return cls._made(lambda place: C.biv_model_load_from_memory(content, len(content), place))
        return cls._made(lambda place: C.biv_model_load(path_of(source), place))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves what prediction takes. A file that is there is replaced at once."""
        check(C.biv_model_save(self._handle, path_of(path)))

    def to_bytes(self) -> bytes:
        """What `save` writes to a file."""
        return copied_bytes(C.biv_model_save_to_memory, self._handle)

    def copy(self) -> Model:
        """A model of its own with the same network, weights and normalisation."""
        return self._made(lambda place: C.biv_model_copy(self._handle, place))

    __copy__ = copy

    def __deepcopy__(self, _: Any) -> Model:
        return self.copy()

    def __reduce__(self) -> Any:
        return Model.load, (self.to_bytes(),)

    def export(self, path: str | os.PathLike[str], **fields: Any) -> None:
        """Writes the model for other programs, in the format that the path ends with: ``.onnx`` or ``.safetensors``."""
        check(C.biv_model_export(self._handle, path_of(path), options(fields)))

    def import_weights(self, path: str | os.PathLike[str], **fields: Any) -> dict[str, list[str]]:
        """Takes the weights of a safetensors file, as PyTorch saves it, by names and shapes: all, or on error none.

        With ``strict=False`` those that both have. Returns what was "imported", is "missing" and was "left_over".
        """
        return made_text(lambda place: C.biv_model_import_weights(self._handle, path_of(path), options(fields), place))

    def info(self) -> ModelInfo:
        """The sizes."""
        return filled(ModelInfo, lambda place: check(C.biv_model_get_info(self._handle, place)))

    def describe(self) -> dict[str, Any]:
        """What the model is: its options, layers, tensors' names and shapes, normalisation, error bars and columns."""
        return copied_json(C.biv_model_describe, self._handle)

    def tensor(self, name: str) -> np.ndarray:
        """A copy of the tensor `name`, its dimensions as in PyTorch."""
        shapes = {tensor["name"]: tensor["shape"] for tensor in self.describe()["tensors"]}
        return copied(lambda out: C.biv_model_get_tensor(self._handle, name.encode(), out), *shapes.get(name, [1]))

    def set_tensor(self, name: str, values: npt.ArrayLike) -> None:
        """Overwrites the tensor `name`."""
        check(C.biv_model_set_tensor(self._handle, name.encode(), described(values)))

    def predict(self, x: npt.ArrayLike) -> np.ndarray:
        """Predicts labels in their unit, of shape (rows,) or (rows, outputs), from features of shape (rows, ...).

        In a data frame, a model that knows the names of its features finds them, whatever their order.
        """
        return predictions(C.biv_model_predict, self._handle, self, x)

    def predict_with_variance(self, x: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """As `predict`, with the variances of the predictions' errors in the square of the labels' unit.

        For a model of `fit`, or of kind ``mean_variance``; others know nothing of their errors (``UNSUPPORTED``). The
        predictions are those of the true values. A label whose noise has variance v differs from its prediction by
        ``error_bars().scale * v`` more.
        """
        features = described(self._inputs(x))
        values = np.empty((features.shape[0], self.info().outputs))
        variances = copied(
            lambda out: C.biv_model_predict_with_variance(self._handle, features, described(values), out), *values.shape)
        return column(values), column(variances)

    def _inputs(self, x: Any) -> Any:
        """The features of `x`, of a data frame by their names."""
        names, known = names_of(x), None
        if names is not None:
            known = self.describe()["columns"]
        if names is None or known is None:
            return x
        for field in known["features"]:
            if field["encoding"] != "number":
                raise ValueError(f"the model codes the column '{field['name']}': give a data set to evaluate, or an array")
            if field["name"] not in names:
                raise ValueError(f"there is no column '{field['name']}', but {', '.join(names)}")
        return x[[field["name"] for field in known["features"]]]

    def predict_dlpack(self, x: Any, out: Any) -> None:
        """Predicts from one tensor into another, on the CPU or a GPU: `out` is float32 or float64, of shape (rows,
        outputs), or (rows,) for one output."""
        check(C.biv_model_predict_dlpack(self._handle, *handed_over(x, out)))

    def evaluate(self, data: Dataset) -> Metrics:
        """The errors of the predictions on a data set, measured against its labels, and how well error bars hold."""
        return filled(Metrics, lambda place: check(C.biv_model_evaluate(self._handle, data._handle, place)))

    def normalization(self) -> Optional[Normalization]:
        """The model's normalisation; None where it has none."""
        return vectors(Normalization, self.describe()["normalization"])

    def set_normalization(self, *, feature_mean: npt.ArrayLike, feature_std: npt.ArrayLike, label_mean: npt.ArrayLike,
                          label_std: npt.ArrayLike) -> None:
        """Gives the model a normalisation: a feature x becomes (x - mean) / std before the network; its outputs, times the
        labels' std plus their mean, are the predictions. Each is an array with an element for each feature or output, or
        one number for all. ``set_normalization(**other.normalization()._asdict())`` takes that of another model.
        """
        info = self.info()
        sizes = (info.inputs, info.inputs, info.outputs, info.outputs)
        parts = [described(np.broadcast_to(part, size) if np.ndim(part) == 0 else part)
                 for part, size in zip((feature_mean, feature_std, label_mean, label_std), sizes)]
        check(C.biv_model_set_normalization(self._handle, *parts))

    def reset_normalization(self) -> None:
        """Takes the normalisation away: a trainer that is made for the model later finds a new one."""
        check(C.biv_model_reset_normalization(self._handle))

    def error_bars(self) -> Optional[ErrorBars]:
        """What `fit` found of the model's errors; None where it has no error bars."""
        return vectors(ErrorBars, self.describe()["error_bars"])

    def _said(self) -> str:
        info = self.info()
        kind = self.describe()["options"]["kind"]
        return f"{kind}, inputs={info.inputs}, outputs={info.outputs}, parameters={info.parameters}"


def vectors(kind: Any, fields: Optional[dict[str, Any]]) -> Any:
    """Vectors of a description, as a tuple with names; None where there are none."""
    return None if fields is None else kind(*(np.array(fields[name], dtype=np.float64) for name in kind._fields))


def predictions(predict: Any, handle: Optional[int], model: Model, x: npt.ArrayLike) -> np.ndarray:
    """What a model, or a trainer of `model`, predicts."""
    features = described(model._inputs(x))
    return column(copied(lambda out: predict(handle, features, out), features.shape[0], model.info().outputs))
