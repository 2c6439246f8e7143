"""Trainers."""

from __future__ import annotations

import os
from ctypes import byref, c_double
from typing import Any, Callable, Optional

import numpy as np
import numpy.typing as npt

from ._callbacks import run
from ._dataset import Dataset
from ._library import C, check, handle_from
from ._model import Model, predictions
from ._object import Object, handle_of
from ._records import Epoch, Metrics, Progress, Step, filled
from ._values import copied_bytes, copied_json, described, options, path_of, whole


class Trainer(Object):
    """Trains a model, from its weights as they are: ``Trainer(model, data, loss={"kind": "biv", "epsilon": 0.1})``.

    Without data, `step` takes mini-batches of yours. A loss of ``"epsilon": "auto"``, `patience` and the schedule
    ``plateau`` need `set_validation`. ``schema("trainer")`` describes every option.
    """

    _free = "biv_trainer_free"

    def __init__(self, model: Model, data: Optional[Dataset] = None, **fields: Any):
        self._own(handle_from(
            lambda place: C.biv_trainer_create(model._handle, handle_of(data), options(fields), place)))

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes, data: Optional[Dataset] = None, **fields: Any) -> Trainer:
        """The trainer that `save` saved, to a file or as bytes, with a model of its own. On a CPU it goes on bit for bit.

        `data` must be what it was trained on, unless ``accept_data=True``; ``device="cpu"`` replaces the saved one.
        """
        settings = options(fields)
        if isinstance(source, (bytes, bytearray, memoryview)):
            content = bytes(source)
            return cls._made(lambda place: C.biv_trainer_load_from_memory(
                content, len(content), handle_of(data), settings, place))
        return cls._made(lambda place: C.biv_trainer_load_with(path_of(source), handle_of(data), settings, place))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves what training takes to go on. A file that is there is replaced at once."""
        check(C.biv_trainer_save(self._handle, path_of(path)))

    def to_bytes(self) -> bytes:
        """What `save` writes to a file."""
        return copied_bytes(C.biv_trainer_save_to_memory, self._handle)

    def step(self, x: Optional[npt.ArrayLike] = None, y: Optional[npt.ArrayLike] = None, *,
             variances: Optional[npt.ArrayLike] = None) -> Step:
        """One step on the next mini-batch, or on one of yours, with arrays as in `Dataset`."""
        if x is None and y is None and variances is None:
            return filled(Step, lambda place: check(C.biv_trainer_step(self._handle, place)))
        arrays = described(x), described(y), described(variances)
        return filled(Step, lambda place: check(C.biv_trainer_step_on(self._handle, *arrays, place)))

    def fit(self, epochs: int, *, test: Optional[Dataset] = None,
            callback: Optional[Callable[[Epoch], Any]] = None) -> bool:
        """Trains for `epochs` epochs and evaluates on `test` after each.

        `callback` is called after every epoch, on this thread. It may use the trainer, and stops the training when it
        returns False or raises; what it raises comes out of here. So does a KeyboardInterrupt, which stops the training
        after its present step. What was trained stays, and the trainer can go on.

        Returns:
            Whether the training came to its end: to the last epoch or, with `set_validation` and the option `patience`, to
            the end of patience.
        """
        count, tests = whole(epochs, "epochs", -2**63, 2**63 - 1), handle_of(test)
        try:
            return run(lambda heard: C.biv_trainer_fit(self._handle, count, tests, heard, None), Epoch, callback,
                       self.cancel) is None
        except BaseException:
            # A cancel that came when the training had ended must not end the next one.
            C.biv_trainer_fit(self._handle, 0, None, None, None)
            raise

    def cancel(self) -> None:
        """Makes the `fit` that is running on another thread stop after its present step; where none is running, the next
        one before its first. A `fit` that returns has used it up: `fit(0)` takes it back."""
        check(C.biv_trainer_cancel(self._handle))

    def set_data(self, data: Dataset) -> None:
        """Goes on with other data: weights, the optimiser's state, normalisation, numbers of steps and epochs stay."""
        check(C.biv_trainer_set_data(self._handle, data._handle))

    def set_validation(self, data: Dataset) -> None:
        """Judges the model on rows that it is not trained on, after each epoch of `fit` from now on. Each `fit` ends with
        the weights of the best epoch so far and, with the option `patience`, when that many epochs were no better."""
        check(C.biv_trainer_set_validation(self._handle, data._handle))

    def evaluate(self, data: Dataset) -> Metrics:
        """The errors of the predictions on a data set, measured against its labels."""
        return filled(Metrics, lambda place: check(C.biv_trainer_evaluate(self._handle, data._handle, place)))

    def predict(self, x: npt.ArrayLike) -> np.ndarray:
        """Predicts with the trainer's model: see `Model.predict`."""
        return predictions(C.biv_trainer_predict, self._handle, self.model, x)

    def progress(self) -> Progress:
        """How far training has come. It never waits."""
        return filled(Progress, lambda place: check(C.biv_trainer_get_progress(self._handle, place)))

    def describe(self) -> dict[str, Any]:
        """What the trainer is: its options, its device, and the kernel that takes its steps."""
        return copied_json(C.biv_trainer_describe, self._handle)

    @property
    def learning_rate(self) -> float:
        """The learning rate, which the schedule multiplies. It can be set, from the next step on."""
        rate = c_double()
        check(C.biv_trainer_get_learning_rate(self._handle, byref(rate)))
        return rate.value

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        check(C.biv_trainer_set_learning_rate(self._handle, rate))

    @property
    def model(self) -> Model:
        """The model in training: its predictions follow."""
        return Model._made(lambda place: C.biv_trainer_get_model(self._handle, place))

    def _said(self) -> str:
        progress, what = self.progress(), self.describe()
        loss = what["options"]["loss"]["kind"]
        return f"loss={loss}, device={what['device']}, epoch={progress.epoch}, steps={progress.steps}"
