"""Batch inverse-variance training: regression on labels whose noise variances are known.

    import biv
    model, report = biv.fit(x, y, variances=v)        # x: (rows, features), y and v: (rows,)
    predictions, variances = model.predict_with_variance(x)

or, to choose everything oneself,

    data = biv.Dataset(x, y, variances=v)
    model = biv.Model(kind="mlp", inputs=x.shape[1], hidden=[64, 32])
    trainer = biv.Trainer(model, data, loss={"kind": "biv", "epsilon": 0.1})
    trainer.fit(100)
    model.predict(x)

Options are keyword arguments and dicts, as biv.h documents them; `schema` describes all. A failure of the library is an
`Error`. `biv.sklearn` has an estimator for scikit-learn. Calls run without Python's lock (the GIL).
"""

from ._dataset import Dataset
from ._errors import Cancelled, Error, InvalidError, NotFoundError, OutOfMemoryError
from ._fit import fit, loss, resolve_experiment, run_experiment, run_sweep, sample_noise, variance_model
from ._model import ErrorBars, Model, Normalization
from ._records import (DatasetInfo, Epoch, ExperimentProgress, FitProgress, LossResult, Metrics, ModelInfo, Progress, Step,
                       VarianceModel)
from ._runtime import build_info, cuda_devices, schema, set_log, set_threads, threads, version
from ._trainer import Trainer

__all__ = [
    "Cancelled", "Dataset", "DatasetInfo", "Epoch", "Error", "ErrorBars", "ExperimentProgress", "FitProgress",
    "InvalidError", "LossResult", "Metrics", "Model", "ModelInfo", "Normalization", "NotFoundError", "OutOfMemoryError",
    "Progress", "Step", "Trainer", "VarianceModel", "build_info", "cuda_devices", "fit", "loss", "resolve_experiment",
    "run_experiment", "run_sweep", "sample_noise", "schema", "set_log", "set_threads", "threads", "variance_model",
    "version",
]
__version__ = version()
