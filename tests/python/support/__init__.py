"""What the tests have in common: the library by ctypes, models after some steps, and their predictions.

The library is BIV_LIBRARY, or the one that `make` puts into build/.
"""

import ctypes
import importlib.metadata
import json
import os
import pathlib
import sys
from ctypes import byref, c_char_p, c_int32, c_int64, c_void_p

ROOT = pathlib.Path(__file__).parents[3]


def skip_without(what, name, version=None):
    """Ends the test where the package `name` is missing, or is not of `version` where one is given."""
    try:
        found = importlib.metadata.version(name).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found is None or version not in (None, found):
        print(f"python: SKIPPED {what}: {name} {version or ''} is not installed")
        sys.exit(0)


skip_without("all tests with arrays", "numpy")

import numpy as np

biv = ctypes.CDLL(str(os.environ.get("BIV_LIBRARY") or ROOT / "build/install/lib/libbiv.so"))
biv.biv_last_error_message.restype = c_char_p
biv.biv_dataset_create_from_arrays.argtypes = [c_void_p] * 4
biv.biv_fit.argtypes = [c_char_p, c_void_p, c_char_p] + [c_void_p] * 4
biv.biv_trainer_create.argtypes = [c_void_p, c_void_p, c_char_p, c_void_p]
biv.biv_trainer_step.argtypes = [c_void_p] * 2
biv.biv_model_predict.argtypes = [c_void_p] * 3
biv.biv_model_predict_with_variance.argtypes = [c_void_p] * 4
biv.biv_model_export.argtypes = [c_void_p, c_char_p, c_char_p]
biv.biv_model_import_weights.argtypes = [c_void_p, c_char_p, c_char_p, c_void_p]
biv.biv_text_get.argtypes = [c_void_p] * 2
biv.biv_model_free.argtypes = biv.biv_trainer_free.argtypes = biv.biv_dataset_free.argtypes = [c_void_p]


def check(status):
    assert status == 0, biv.biv_last_error_message().decode()


def made(function, *arguments):
    handle = c_void_p()
    check(function(*arguments, byref(handle)))
    return handle


class Array(ctypes.Structure):
    """biv_array and biv_array_out, of a NumPy array in C order."""

    _fields_ = [("data", c_void_p), ("dtype", c_int32), ("rank", c_int32), ("shape", c_void_p), ("strides", c_void_p),
                ("size", c_int64)]

    def __init__(self, values):
        self.kept = values, (c_int64 * values.ndim)(*values.shape)
        dtype = {np.dtype(np.float32): 1, np.dtype(np.float64): 2}[values.dtype]
        super().__init__(values.ctypes.data, dtype, values.ndim, ctypes.addressof(self.kept[1]), None, 0)


def data_set(features, labels):
    return made(biv.biv_dataset_create_from_arrays, byref(Array(features)), byref(Array(labels)), None)


def trained_on(options, features, labels, **training):
    """A model after some steps."""
    data, model = data_set(features, labels), made(biv.biv_model_create, json.dumps(options).encode())
    training = {"loss": {"kind": "mse"}, "batch_size": 8} | training
    trainer = made(biv.biv_trainer_create, model, data, json.dumps(training).encode())
    for _ in range(6):
        check(biv.biv_trainer_step(trainer, None))
    biv.biv_trainer_free(trainer)
    biv.biv_dataset_free(data)
    return model


def trained(options, shape, rows):
    """A model after some steps, and its features."""
    random = np.random.default_rng(1)
    features = (random.random((rows, *shape)) * 3 + 1).astype(np.float32)
    # Near 0: a mean that is far greater than their spread would hide a network that is wrong.
    labels = 1 + 5 * (features.reshape(rows, -1).mean(1, dtype=np.float64) - features.mean()) + random.normal(size=rows)
    return trained_on(options, features, labels), features


def predictions(model, features, outputs=1):
    out = np.zeros((len(features), outputs))
    check(biv.biv_model_predict(model, byref(Array(features)), byref(Array(out))))
    return out


def assert_close(found, expected, what):
    """Within 5e-6 of the largest number that is expected."""
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < 5e-6, f"{what}: {error}"
    print(f"python: {what}: within {error:.1e}")
