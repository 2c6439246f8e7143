#!/usr/bin/env python3
"""Loads what biv_model_export() wrote into plain PyTorch, and predicts with it. libbiv is not needed for that.

  examples/python/plain_pytorch.py weights.safetensors features.npy

The file's metadata say what the network is made of and how features and labels are normalised (docs/format.md). Prints one
line of predictions, in the labels' unit, for each row of the features; images are rows of [channels, height, width].
"""

import json
import sys

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "silu": nn.SiLU,
               "gelu": nn.GELU, "softplus": nn.Softplus}


class Layers(nn.Module):
    """Layers one after the other, under the names that they have in the file: those of parts are in parts of their own."""

    def __init__(self, layers, state, prefix, image):
        super().__init__()
        self.order = [layer.get("name", str(number)) for number, layer in enumerate(layers)]
        for name, layer in zip(self.order, layers):
            *parts, last = name.split(".")
            place = self
            for part in parts:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place._modules[part]
            place.add_module(last, module(layer, state, prefix + name, image))
            image = image and layer["kind"] != "flatten"

    def forward(self, x):
        for name in self.order:
            x = self.get_submodule(name)(x)
        return x


class Residual(Layers):
    def __init__(self, layer, state, prefix, image):
        super().__init__(layer["layers"], state, f"{prefix}.", image)
        self.downsample = Layers(layer.get("shortcut", []), state, f"{prefix}.downsample.", image)

    def forward(self, x):
        return super().forward(x) + self.downsample(x)


def module(layer, state, name, image):
    """The layer `name`. Its sizes are those of its weights; `image` says whether it gets images or tables."""
    kind, weight = layer["kind"], state.get(f"{name}.weight")
    if kind == "linear":
        return nn.Linear(weight.shape[1], weight.shape[0], bias=layer.get("bias", True))
    if kind == "conv2d":
        sizes = layer["size"], layer["stride"], layer["padding"]
        return nn.Conv2d(weight.shape[1], weight.shape[0], *sizes, bias=layer.get("bias", True))
    if kind == "batch_norm":
        return (nn.BatchNorm2d if image else nn.BatchNorm1d)(len(weight))
    if kind == "layer_norm":
        return nn.LayerNorm(weight.shape)
    if kind == "activation":
        return ACTIVATIONS[layer["function"]]()
    if kind == "dropout":
        return nn.Dropout(layer["p"])
    if kind in ("max_pool", "avg_pool"):
        pool = nn.MaxPool2d if kind == "max_pool" else nn.AvgPool2d
        return pool(layer["size"], layer.get("stride"), layer["padding"])
    if kind == "residual":
        return Residual(layer, state, name, image)
    return {"flatten": nn.Flatten, "global_avg_pool": lambda: nn.AdaptiveAvgPool2d(1)}[kind]()


def load(path):
    """The network in evaluation mode, and the normalisation, which may be None."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}
    description = json.loads(metadata["network"])
    network = Layers(description["layers"], state, "", len(description["input_shape"]) == 3).eval()
    missing, left_over = network.load_state_dict(state, strict=False)
    assert not left_over and all(name.endswith("num_batches_tracked") for name in missing), (missing, left_over)
    return network, json.loads(metadata["normalization"])


def predict(network, normalization, features):
    """Labels in their unit for rows of features in theirs."""
    x = torch.as_tensor(features, dtype=torch.float64)
    if normalization:
        scale = {name: torch.tensor(values, dtype=torch.float64) for name, values in normalization.items()}
        x = (x - scale["feature_mean"]) / scale["feature_std"]
    with torch.no_grad():
        y = network(x.float()).double()
    return y * scale["label_std"] + scale["label_mean"] if normalization else y


if __name__ == "__main__":
    network, normalization = load(sys.argv[1])
    for row in predict(network, normalization, np.load(sys.argv[2])).tolist():
        print(*row)
