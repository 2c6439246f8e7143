#!/usr/bin/env python3
"""Models exported to ONNX are valid, and ONNX Runtime predicts with them what the library does.

  BIV_LIBRARY=build/install/lib/libbiv.so tests/python/onnx_export.py

Skipped without NumPy, onnx and onnxruntime.
"""

import json
import pathlib
import tempfile
from ctypes import byref

from support import Array, assert_close, biv, check, data_set, made, predictions, skip_without, trained_on

for package in ("onnx", "onnxruntime"):
    skip_without("export to ONNX", package)

import numpy as np
import onnx
import onnxruntime

TABLE, IMAGES = (7,), (3, 12, 10)


def mlp(**options):
    return {"kind": "mlp", "inputs": 7, "hidden": [20, 10], "seed": 3} | options


def activation(name):
    return {"kind": "activation", "function": name}


LAYERS = [{"kind": "conv2d", "outputs": 8, "size": 3, "padding": 1}, {"kind": "batch_norm"}, activation("silu"),
          {"kind": "avg_pool", "size": 2, "padding": 1}, {"kind": "residual", "layers": [
              {"kind": "conv2d", "outputs": 8, "size": 3, "padding": 1, "bias": False}, {"kind": "batch_norm"}]},
          activation("relu"), {"kind": "layer_norm"},
          {"kind": "residual", "name": "wide", "layers": [{"kind": "conv2d", "outputs": 12, "size": 1}, activation("gelu")],
           "shortcut": [{"kind": "conv2d", "outputs": 12, "size": 1}]},
          {"kind": "max_pool", "size": 3, "stride": 2, "padding": 1}, {"kind": "dropout"}, {"kind": "global_avg_pool"},
          {"kind": "flatten"}, {"kind": "linear", "outputs": 1}]
CASES = {
    "mlp with batch_norm": (mlp(norm="batch_norm"), TABLE),
    "mlp with layer_norm and dropout": (mlp(norm="layer_norm", dropout=0.3), TABLE),
    "a single linear layer": (mlp(hidden=[]), TABLE),
    "vanilla_cnn": ({"kind": "vanilla_cnn", "height": 64, "width": 64}, (3, 64, 64)),
    "ResNet-18": ({"kind": "resnet", "depth": 18, "height": 48, "width": 40}, (3, 48, 40)),
    "ResNet-50": ({"kind": "resnet", "depth": 50, "height": 32, "width": 32, "channels": 1}, (1, 32, 32)),
    "layers": ({"kind": "sequential", "input_shape": IMAGES, "layers": LAYERS}, IMAGES),
}
for name in ("relu", "leaky_relu", "tanh", "sigmoid", "silu", "gelu", "softplus"):
    CASES[name] = (mlp(activation=name), TABLE)


class Exported:
    """A model's ONNX file, which the checker has found valid."""

    def __init__(self, model, folder):
        path = str(folder / "model.onnx")
        check(biv.biv_model_export(model, path.encode(), None))
        self.proto = onnx.load(path)
        onnx.checker.check_model(self.proto, full_check=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, features):
        outputs = [output.name for output in self.session.get_outputs()]
        return dict(zip(outputs, self.session.run(outputs, {"features": features.astype(np.float32)})))


def both(model, features, outputs=1):
    """Predictions and their variances."""
    mean, variance = np.zeros((len(features), outputs)), np.zeros((len(features), outputs))
    arrays = [byref(Array(values)) for values in (features, mean, variance)]
    check(biv.biv_model_predict_with_variance(model, *arrays))
    return mean, variance


def compared(name, model, features, folder):
    """A model without variances; for any number of rows."""
    exported, expected = Exported(model, folder), predictions(model, features)
    assert expected.std() > 0
    found = exported.run(features), exported.run(features[:1])
    assert list(found[0]) == ["labels"]
    found = np.concatenate([outputs["labels"] for outputs in found])
    assert_close(found, np.concatenate([expected, expected[:1]]), f"ONNX of {name}")
    return exported


def compared_with_variances(name, model, features, folder, outputs=1):
    mean, variance = both(model, features, outputs)
    found = Exported(model, folder).run(features)
    assert (variance > 0).all() and list(found) == ["labels", "variances"]
    assert_close(found["labels"], mean, f"ONNX of {name}")
    assert_close(found["variances"], variance, f"ONNX of {name}, variances")


def main(folder):
    random = np.random.default_rng(4)
    for name, (options, shape) in CASES.items():
        features = (random.random((24, *shape)) * 3 + 1).astype(np.float32)
        # Around 0, so that the largest prediction is no more than what the network makes of the features.
        model = trained_on(options, features, random.normal(size=24))
        exported = compared(name, model, features, folder)
        biv.biv_model_free(model)
    metadata = {entry.key: json.loads(entry.value) for entry in exported.proto.metadata_props}
    assert metadata["network"]["input_shape"] == [7] and len(metadata["normalization"]["feature_mean"]) == 7
    assert exported.proto.producer_name == "libbiv"

    # Several outputs, a network of its own units, and columns that lie far from 0 beside their deviations.
    features = random.normal(size=(40, 7)) * 0.3 + np.array([2011.5, 0, 1e4, -3, 0, 0, 1])
    features = features.astype(np.float32)
    labels = features @ random.normal(size=(7, 2)) * [1, 1e-3] + [5e4, 0]
    several = mlp(outputs=2)
    model = trained_on(several, features, labels)
    expected, found = predictions(model, features, 2), Exported(model, folder).run(features)["labels"]
    for output in range(2):
        assert_close(found[:, output], expected[:, output], f"ONNX of far columns, output {output}")
    biv.biv_model_free(model)
    model = trained_on(mlp(), features / 1e4, labels[:, 0] / 5e4, normalize=False)
    compared("no normalisation", model, (features / 1e4).astype(np.float32), folder)
    biv.biv_model_free(model)

    # Models that know their errors.
    noisy = labels + random.normal(size=labels.shape) * [1, 1e-3]
    mean_variance = {"kind": "mean_variance", "network": several}
    model = trained_on(mean_variance, features, noisy, loss={"kind": "gaussian"})
    compared_with_variances("mean_variance", model, features, folder, 2)
    biv.biv_model_free(model)
    for name, network, training in (
        ("a fit of three", several, {"members": 3}),
        ("a fit of one", several, {"members": 1}),
        ("a fit of three mean_variance", mean_variance, {"members": 3, "loss": {"kind": "gaussian"}}),
    ):
        data, options = data_set(features, noisy), json.dumps({"epochs": 3, "batch_size": 8} | training)
        model = made(lambda *given: biv.biv_fit(*given, None), json.dumps(network).encode(), data, options.encode(), None,
                     None)
        compared_with_variances(name, model, features, folder, 2)
        biv.biv_model_free(model)
        biv.biv_dataset_free(data)

    model = made(biv.biv_model_create, json.dumps({"kind": "ensemble", "members": 3, "network": mlp()}).encode())
    exported = compared("an ensemble", model, features / np.float32(1e4), folder)
    names = {tensor.name for tensor in exported.proto.graph.initializer}
    assert {"members.0.0.weight", "members.2.4.bias"} <= names
    biv.biv_model_free(model)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(pathlib.Path(folder))
