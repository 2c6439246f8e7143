#!/usr/bin/env python3
"""Weights to PyTorch and back: what libbiv exports predicts the same in plain PyTorch, and what PyTorch saves predicts the
same in libbiv.

  BIV_LIBRARY=build/install/lib/libbiv.so tests/python/weights.py

Skipped without NumPy, safetensors and PyTorch of TORCH_VERSION.
"""

import ctypes
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from ctypes import byref, c_char_p, c_int32, c_int64, c_void_p


def skip_without(name, version=None):
    try:
        found = importlib.metadata.version(name).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found is None or version not in (None, found):
        print(f"python: SKIPPED weights to and from PyTorch: {name} {version or ''} is not installed")
        sys.exit(0)


skip_without("numpy")
skip_without("safetensors")
skip_without("torch", os.environ.get("TORCH_VERSION"))

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

ROOT = pathlib.Path(__file__).parents[2]
LIBRARY = os.environ.get("BIV_LIBRARY") or ROOT / "build/install/lib/libbiv.so"
biv = ctypes.CDLL(str(LIBRARY), mode=os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_DEEPBIND)
biv.biv_last_error_message.restype = c_char_p
biv.biv_dataset_create_from_arrays.argtypes = [c_void_p] * 4
biv.biv_trainer_create.argtypes = [c_void_p, c_void_p, c_char_p, c_void_p]
biv.biv_trainer_step.argtypes = [c_void_p] * 2
biv.biv_model_predict.argtypes = [c_void_p] * 3
biv.biv_model_export.argtypes = [c_void_p, c_char_p, c_char_p]
biv.biv_model_import_weights.argtypes = [c_void_p, c_char_p, c_char_p, c_void_p]
biv.biv_text_get.argtypes = [c_void_p] * 2


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


def predictions(model, features):
    out = np.zeros((len(features), 1))
    check(biv.biv_model_predict(model, byref(Array(features)), byref(Array(out))))
    return out


def trained(options, shape, rows):
    """A model after some steps, and its features."""
    random = np.random.default_rng(1)
    features = (random.random((rows, *shape)) * 3 + 1).astype(np.float32)
    labels = 100 + 5 * features.reshape(rows, -1).mean(1, dtype=np.float64) + random.normal(size=rows)
    data = made(biv.biv_dataset_create_from_arrays, byref(Array(features)), byref(Array(labels)), None)
    model = made(biv.biv_model_create, json.dumps(options).encode())
    trainer = made(biv.biv_trainer_create, model, data, b'{"loss": {"kind": "mse"}, "batch_size": 8}')
    for _ in range(6):
        check(biv.biv_trainer_step(trainer, None))
    return model, features


def imported(model, path, options=None):
    report, text = made(biv.biv_model_import_weights, model, str(path).encode(), options), c_char_p()
    check(biv.biv_text_get(report, byref(text)))
    return json.loads(text.value)


def assert_close(found, expected, what):
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < 5e-6, f"{what}: {error}"
    print(f"python: {what}: within {error:.1e}")


def activation(name):
    return {"kind": "activation", "function": name}


LAYERS = [{"kind": "conv2d", "outputs": 8, "size": 3, "padding": 1}, {"kind": "batch_norm"}, activation("silu"),
          {"kind": "avg_pool", "size": 2}, {"kind": "residual", "layers": [
              {"kind": "conv2d", "outputs": 8, "size": 3, "padding": 1, "bias": False}, {"kind": "batch_norm"}]},
          activation("relu"), {"kind": "layer_norm"}, {"kind": "flatten"}, {"kind": "dropout"},
          {"kind": "linear", "outputs": 1}]
CASES = {
    "mlp with batch_norm": ({"kind": "mlp", "inputs": 7, "hidden": [20, 10], "norm": "batch_norm"}, (7,)),
    "mlp with layer_norm": ({"kind": "mlp", "inputs": 7, "hidden": 20, "norm": "layer_norm", "activation": "gelu"}, (7,)),
    "vanilla_cnn": ({"kind": "vanilla_cnn", "height": 64, "width": 64}, (3, 64, 64)),
    "resnet": ({"kind": "resnet", "depth": 18, "height": 48, "width": 40}, (3, 48, 40)),
    "layers": ({"kind": "sequential", "input_shape": [3, 12, 10], "layers": LAYERS}, (3, 12, 10)),
}

with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    weights, rows = folder / "weights.safetensors", folder / "features.npy"
    for name, (options, shape) in CASES.items():
        model, features = trained(options, shape, 16)
        expected = predictions(model, features)
        check(biv.biv_model_export(model, str(weights).encode(), None))
        np.save(rows, features)
        program = [sys.executable, ROOT / "examples/python/plain_pytorch.py", weights, rows]
        printed = subprocess.run(program, capture_output=True, text=True)
        assert printed.returncode == 0, printed.stderr
        assert_close(np.array(printed.stdout.split(), float)[:, None], expected, f"{name}, exported to PyTorch")

    # And the other way, as PyTorch saves a network, one in DataParallel and a compiled one.
    network = nn.Sequential(nn.Linear(7, 20), nn.BatchNorm1d(20), nn.Tanh(), nn.Linear(20, 1))
    network(torch.randn(50, 7) * 3)
    network.eval()
    options = {"kind": "mlp", "inputs": 7, "hidden": 20, "norm": "batch_norm", "activation": "tanh"}
    features = np.random.default_rng(2).normal(size=(30, 7)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(features)).double().numpy()
    parallel = nn.DataParallel(network)
    for name, saved in (("saved", network), ("of DataParallel", parallel), ("compiled", torch.compile(network))):
        save_file(saved.state_dict(), weights)
        model = made(biv.biv_model_create, json.dumps(options).encode())
        report = imported(model, weights)
        assert len(report["imported"]) == 8 and not report["missing"] and not report["left_over"], report
        assert_close(predictions(model, features), expected, f"a network {name} by PyTorch")
    state = network.state_dict() | {"4.weight": torch.zeros(3)}
    del state["1.running_var"]
    save_file(state, weights)
    status = biv.biv_model_import_weights(model, str(weights).encode(), None, None)
    message = biv.biv_last_error_message().decode()
    assert status != 0 and "'1.running_var'" in message and "'4.weight'" in message, message
    report = imported(model, weights, b'{"strict": false}')
    assert report["missing"] == ["1.running_var"] and report["left_over"] == ["4.weight"], report
