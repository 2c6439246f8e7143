#!/usr/bin/env python3
"""Weights to PyTorch and back: what libbiv exports predicts the same in plain PyTorch, and what PyTorch saves predicts the
same in libbiv.

  BIV_LIBRARY=build/install/lib/libbiv.so tests/python/weights.py

Skipped without NumPy, safetensors and PyTorch of TORCH_VERSION.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from ctypes import byref, c_char_p

from support import ROOT, assert_close, biv, check, made, predictions, skip_without, trained

WHAT = "weights to and from PyTorch"
skip_without(WHAT, "safetensors")
skip_without(WHAT, "torch", os.environ.get("TORCH_VERSION"))

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn


def imported(model, path, options=None):
    report, text = made(biv.biv_model_import_weights, model, str(path).encode(), options), c_char_p()
    check(biv.biv_text_get(report, byref(text)))
    return json.loads(text.value)


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
