#!/usr/bin/env python3
"""Write the reference values that the tests compare libbiv with.

Everything here is computed with PyTorch and its autograd, or with Python's
decimal module, and shares no code with libbiv. The inputs come from seeded
NumPy and PyTorch generators, so a second run with the same versions writes
the same bytes.

    python tests/golden/make_goldens.py [--out DIR]

README.md, beside this file, describes the fields of each file.
"""

import argparse
import copy
import json
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn

# --------------------------------------------------------------------------
# Writing numbers


def exact_list(values):
    """float32 values in full: the same numbers, read as float32 or float64."""
    array = np.asarray(values)
    assert array.dtype == np.float32 and np.isfinite(array).all()
    return array.astype(np.float64).ravel().tolist()


def f32_list(values):
    """The values as decimals that read back as exactly the same float32.

    str() of a float32 is the shortest decimal that identifies it: at most
    nine significant digits.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().numpy()
    array = np.asarray(values)
    assert array.dtype == np.float32 and np.isfinite(array).all()
    short = [float(str(x)) for x in array.ravel()]
    assert (np.array(short).astype(np.float32) == array.ravel()).all()
    return short


def write(path, document):
    """Write compact JSON, one line for each entry of a top-level list."""
    lines = []
    for key, value in document.items():
        if isinstance(value, list):
            rows = ",\n".join(json.dumps(v, separators=(",", ":"), allow_nan=False) for v in value)
            lines.append(f"{json.dumps(key)}:[\n{rows}\n]")
        else:
            lines.append(f"{json.dumps(key)}:{json.dumps(value, allow_nan=False)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size} bytes")


# --------------------------------------------------------------------------
# The losses


def column_loss(loss, prediction, label, variance):
    """The loss of one output column: three vectors of the same length."""
    squared = (prediction - label) ** 2
    kind = loss["kind"]
    if kind == "mse":
        return squared.mean()
    if kind == "cutoff_mse":
        kept = squared[variance < loss["threshold"]]
        return kept.mean() if len(kept) else prediction.sum() * 0.0
    weight = 1.0 / (variance + loss["epsilon"])
    if kind == "iv":
        return (weight * squared).mean()
    if kind == "biv":
        return (weight * squared).sum() / weight.sum()
    raise ValueError(kind)


def total_loss(loss, prediction, label, variance):
    """The mean over the columns of three (rows, outputs) tensors."""
    columns = range(prediction.shape[1])
    return torch.stack(
        [column_loss(loss, prediction[:, j], label[:, j], variance[:, j]) for j in columns]
    ).mean()


def loss_case(loss, prediction, label, variance):
    """One case: float32 inputs; the value and the gradient in float64."""
    p, y, v = (torch.from_numpy(a).double() for a in (prediction, label, variance))
    p.requires_grad_(True)
    value = total_loss(loss, p, y, v)
    (gradient,) = torch.autograd.grad(value, p)
    return {
        "loss": loss,
        "rows": p.shape[0],
        "outputs": p.shape[1],
        "predictions": exact_list(prediction),
        "labels": exact_list(label),
        "variances": exact_list(variance),
        "value": value.item(),
        "gradient": gradient.ravel().tolist(),
    }


def torch_version():
    return torch.__version__.split("+")[0]


def make_losses(seed):
    rng = np.random.default_rng(seed + 20210704)

    def draw(rows, outputs, scale=1.0):
        shape = (rows, outputs)
        prediction = rng.normal(size=shape).astype(np.float32)
        label = (prediction + rng.normal(0.0, 1.5, size=shape)).astype(np.float32)
        # Gamma with shape 0.5: many small variances and a few large ones.
        variance = (scale * rng.gamma(0.5, 2.0, size=shape)).astype(np.float32)
        return prediction, label, variance

    cases = []
    epsilons = iter([0.1, 0.5, 0.01, 1.0, 0.1, 0.001] * 2)
    thresholds = iter([1.0, 1.0, 0.5, 1.0, 1.0, 2.0])
    for kind in ("mse", "cutoff_mse", "iv", "biv"):
        for rows in (1, 7, 64):
            for outputs in (1, 3):
                prediction, label, variance = draw(rows, outputs)
                loss = {"kind": kind}
                if kind == "cutoff_mse":
                    threshold = loss["threshold"] = next(thresholds)
                    variance[0] = np.float32(0.25) * np.float32(threshold)  # one is kept
                    if rows > 1:
                        variance[1] = threshold  # strictly below: this one is not
                elif kind in ("iv", "biv"):
                    loss["epsilon"] = next(epsilons)
                    if rows > 1:
                        variance[0] = 0.0  # a clean label
                cases.append(loss_case(loss, prediction, label, variance))

    # A column without any label under the threshold, beside two that have some.
    prediction, label, variance = draw(7, 3)
    variance[:, 1] += 1.0
    variance[0, 0] = variance[0, 2] = 0.25
    cases.append(loss_case({"kind": "cutoff_mse", "threshold": 1.0}, prediction, label, variance))
    # Equal variances: the value is the mean squared error.
    prediction, label, variance = draw(7, 1)
    variance[:] = 0.75
    cases.append(loss_case({"kind": "biv", "epsilon": 0.1}, prediction, label, variance))
    # Tiny and huge variances, with an epsilon to their measure.
    for scale in (1e-6, 1e6):
        prediction, label, variance = draw(7, 1, scale)
        loss = {"kind": "biv", "epsilon": 0.1 * scale}
        cases.append(loss_case(loss, prediction, label, variance))
    return {"torch": torch_version(), "cases": cases}


# --------------------------------------------------------------------------
# Fifty Adam steps on two small networks

STEPS, BATCHES, ROWS, EPSILON, LEARNING_RATE = 50, 5, 32, 0.1, 1e-3


def mlp(inputs, hidden, batch_norm):
    """Linear, [BatchNorm1d,] ReLU for each hidden width; then a last Linear."""
    layers, width = [], inputs
    for next_width in hidden:
        layers.append(nn.Linear(width, next_width))
        if batch_norm:
            layers.append(nn.BatchNorm1d(next_width))
        layers.append(nn.ReLU())
        width = next_width
    return nn.Sequential(*layers, nn.Linear(width, 1))


def state(network):
    return {
        name: {"shape": list(tensor.shape), "data": f32_list(tensor)}
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def draw_batches(rng, inputs):
    direction = rng.normal(size=inputs) / np.sqrt(inputs)
    batches = []
    for _ in range(BATCHES):
        features = rng.normal(size=(ROWS, inputs)).astype(np.float32)
        variances = rng.gamma(0.5, 2.0, size=(ROWS, 1)).astype(np.float32)
        noise = np.sqrt(variances) * rng.normal(size=(ROWS, 1))
        labels = (np.tanh(features @ direction)[:, None] + noise).astype(np.float32)
        batches.append(tuple(map(torch.from_numpy, (features, labels, variances))))
    return batches


def batches_as_json(batches):
    return [dict(zip(("features", "labels", "variances"), map(f32_list, batch))) for batch in batches]


def training_case(inputs, hidden, batch_norm, seed):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = mlp(inputs, hidden, batch_norm)
    initial = state(network)
    batches = draw_batches(rng, inputs)

    adam = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=False, foreach=False)
    loss = {"kind": "biv", "epsilon": EPSILON}
    losses = []
    network.train()
    for step in range(STEPS):
        features, labels, variances = batches[step % BATCHES]
        adam.zero_grad()
        value = total_loss(loss, network(features), labels, variances)
        value.backward()
        adam.step()
        losses.append(value.detach())
    with torch.no_grad():
        features = batches[0][0]
        train_predictions = copy.deepcopy(network)(features)  # still in training mode
        predictions = network.eval()(features)
    return {
        "inputs": inputs,
        "hidden": hidden,
        "batch_norm": batch_norm,
        "learning_rate": LEARNING_RATE,
        "loss": loss,
        "steps": STEPS,
        "batch_rows": ROWS,
        "initial": initial,
        "batches": batches_as_json(batches),
        "losses": f32_list(torch.stack(losses)),
        "final_predictions": f32_list(predictions),
        "final_train_predictions": f32_list(train_predictions),
        "final": state(network),
    }


def make_mlp_adam(seed):
    return {
        "torch": torch_version(),
        "cases": [
            training_case(19, [100, 50, 20, 10], batch_norm=False, seed=seed + 1),
            training_case(11, [16, 8], batch_norm=True, seed=seed + 2),
        ],
    }


# --------------------------------------------------------------------------
# Fifty steps of each optimiser on one network, and the rates of each schedule

STEPS_PER_EPOCH = 4


def optimizer_of(options, parameters, learning_rate):
    options = dict(options)
    kind, decay = options.pop("kind"), options.pop("weight_decay", None)
    given = {} if decay is None else {"weight_decay": decay}
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate, foreach=False, **given, **options)
    make = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
    if "beta1" in options:
        given["betas"] = (options.pop("beta1"), options.pop("beta2"))
    if "epsilon" in options:
        given["eps"] = options.pop("epsilon")
    return make(parameters, lr=learning_rate, fused=False, foreach=False, **given, **options)


def optimizer_case(network, batches, options, learning_rate, clip_norm=None):
    network = copy.deepcopy(network)
    optimizer = optimizer_of(options, network.parameters(), learning_rate)
    losses, clipped = [], 0
    for step in range(STEPS):
        features, labels, variances = batches[step % BATCHES]
        optimizer.zero_grad()
        value = total_loss({"kind": "biv", "epsilon": EPSILON}, network(features), labels, variances)
        value.backward()
        if clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(network.parameters(), clip_norm, foreach=False)
            clipped += int(norm > clip_norm)
        optimizer.step()
        losses.append(value.detach())
    assert clip_norm is None or 0 < clipped < STEPS, clipped
    with torch.no_grad():
        predictions = network(batches[0][0])
    case = {"optimizer": options, "learning_rate": learning_rate}
    if clip_norm is not None:
        case["clip_norm"] = clip_norm
    return {**case, "losses": f32_list(torch.stack(losses)), "final_predictions": f32_list(predictions)}


def scheduler_of(options, learning_rate):
    """A function that ends an epoch, given its loss, and one that tells the rate."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=learning_rate)
    schedulers, kind = torch.optim.lr_scheduler, options["kind"]
    if kind == "step":
        scheduler = schedulers.StepLR(optimizer, options["epochs"], options["gamma"])
    elif kind == "cosine":
        least = learning_rate * options["min_factor"]
        scheduler = schedulers.CosineAnnealingLR(optimizer, options["epochs"], least)
    elif kind == "plateau":
        scheduler = schedulers.ReduceLROnPlateau(
            optimizer, factor=options["factor"], patience=options["patience"], threshold=options["threshold"],
            min_lr=learning_rate * options["min_factor"], eps=0)
    else:
        scheduler = schedulers.ConstantLR(optimizer, factor=1.0)
    optimizer.step()  # PyTorch warns otherwise

    def end_epoch(epoch, loss):
        if kind == "plateau":
            scheduler.step(loss)
        elif kind != "cosine" or epoch < options["epochs"]:  # PyTorch's rises again
            scheduler.step()

    return end_epoch, lambda: optimizer.param_groups[0]["lr"]


def schedule_case(options, epochs, rng):
    learning_rate, warm_up = 0.01, options["warmup_steps"]
    losses = (1 / (1 + 0.3 * np.minimum(np.arange(epochs), 9)) + 0.001 * rng.normal(size=epochs)).tolist()
    end_epoch, rate = scheduler_of(options, learning_rate)
    ramp = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    warming = None
    if warm_up > 1:
        warming = torch.optim.lr_scheduler.LinearLR(ramp, start_factor=1 / warm_up, total_iters=warm_up - 1)
    ramp.step()
    rates = []
    for epoch in range(epochs):
        for _ in range(STEPS_PER_EPOCH):
            rates.append(rate() * ramp.param_groups[0]["lr"])
            if warming:
                warming.step()
        end_epoch(epoch, losses[epoch])
    return {"schedule": options, "learning_rate": learning_rate, "steps_per_epoch": STEPS_PER_EPOCH,
            "validation_losses": losses, "rates": rates}


def make_optimizers(seed):
    torch.manual_seed(seed + 3)
    rng = np.random.default_rng(seed + 3)
    network = mlp(5, [8, 6], batch_norm=False)
    batches = draw_batches(rng, 5)
    sgd = {"kind": "sgd", "momentum": 0.9}
    cases = [
        ({"kind": "adam", "beta1": 0.8, "beta2": 0.99, "epsilon": 1e-6, "weight_decay": 0.1}, 0.01),
        ({"kind": "adam"}, 0.01, 0.3),
        ({"kind": "adamw"}, 0.01),
        ({"kind": "adamw", "beta1": 0.8, "beta2": 0.99, "epsilon": 1e-6, "weight_decay": 2.0}, 0.01),
        ({"kind": "adamw", "weight_decay": 2.0}, 0.01, 0.3),
        ({"kind": "sgd"}, 0.05),
        ({"kind": "sgd", "weight_decay": 0.1}, 0.05),
        (sgd, 0.02),
        ({**sgd, "weight_decay": 0.1, "dampening": 0.5}, 0.02),
        ({**sgd, "nesterov": True, "weight_decay": 0.1}, 0.02),
        ({"kind": "sgd"}, 0.05, 0.3),
        ({**sgd, "nesterov": True}, 0.02, 0.3),
    ]
    warm = {"warmup_steps": 10}
    cold = {"warmup_steps": 0}
    plateau = {"kind": "plateau", "factor": 0.5, "patience": 2, "threshold": 1e-4, "min_factor": 0.3}
    schedules = [
        {"kind": "constant", **warm},
        {"kind": "step", "epochs": 3, "gamma": 0.5, **cold},
        {"kind": "step", "epochs": 1, "gamma": 0.9, **warm},
        {"kind": "cosine", "epochs": 15, "min_factor": 0.0, **cold},
        {"kind": "cosine", "epochs": 20, "min_factor": 0.05, **warm},
        {**plateau, **cold},
        {**plateau, "patience": 0, "threshold": 0.1, "min_factor": 0.0, **warm},
    ]
    return {
        "torch": torch_version(),
        "inputs": 5,
        "hidden": [8, 6],
        "batch_norm": False,
        "loss": {"kind": "biv", "epsilon": EPSILON},
        "initial": state(network),
        "batches": batches_as_json(batches),
        "cases": [optimizer_case(network, batches, *case) for case in cases],
        "schedules": [schedule_case(schedule, 20, rng) for schedule in schedules],
    }


# --------------------------------------------------------------------------
# Networks for images. Weights and inputs are a formula, so that the file need
# not hold them; float64, so that what a float32 network differs by is its own.

IMAGE_STEPS, IMAGE_ROWS, HEAD = 10, 8, 3


def fill(seed, index, shape, centre, scale):
    """The float32 values that both sides compute: element e of tensor `index`.

    centre + scale * u, with u in [-1, 1) from the finaliser of MurmurHash3
    (32 bits) of e + 0x9e3779b9 * index + 0x85ebca6b * seed.
    """
    offset = (0x9E3779B9 * index + 0x85EBCA6B * seed) % 2**32
    h = np.arange(np.prod(shape), dtype=np.uint32) + np.uint32(offset)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    h ^= h >> np.uint32(16)
    u = (h >> np.uint32(8)).astype(np.float64) / 2**23 - 1
    return torch.from_numpy((centre + scale * u).astype(np.float32).reshape(shape))


def fill_state(network, seed):
    """Centre and scale follow from a tensor's name and shape; the index is its place."""
    tensors = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    for index, (name, tensor) in enumerate(tensors.items()):
        if tensor.dim() > 1:
            centre, scale = 0.0, float(np.sqrt(6.0 / tensor[0].numel()))
        else:
            centre = 0.0 if name.endswith(("bias", "mean")) else 1.0
            scale = 0.25
        tensor.copy_(fill(seed, index, tuple(tensor.shape), centre, scale))


def vanilla_cnn(options):
    layers, width = [], 3
    for channels in (10, 20, 32, 64, 128, 256):
        layers += [nn.Conv2d(width, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)]
        width = channels
    features = width * (options["height"] // 64) * (options["width"] // 64)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 1))


class Block(nn.Module):
    """torchvision's BasicBlock, or its Bottleneck."""

    def __init__(self, inputs, channels, stride, bottleneck):
        super().__init__()
        outputs = channels * 4 if bottleneck else channels
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
            self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
        self.bottleneck = bottleneck
        self.downsample = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            out = self.bn3(self.conv3(torch.relu(out)))
        return torch.relu(out + self.downsample(x))


class ResNet(nn.Module):
    """torchvision.models.resnet18, 34 and 50 with one output."""

    def __init__(self, options):
        super().__init__()
        depth, inputs = options["depth"], 64
        expansion = 4 if depth == 50 else 1
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for stage, count in enumerate({18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]):
            blocks, channels = [], 64 * 2**stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(Block(inputs, channels, stride, depth == 50))
                inputs = channels * expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inputs, 1)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def image_case(options, seed, rows, learning_rate=None):
    network = (vanilla_cnn if options["kind"] == "vanilla_cnn" else ResNet)(options)
    return network_case(network, (3, options["height"], options["width"]), options, seed, rows, learning_rate)


def network_case(network, shape, options, seed, rows, learning_rate=None):
    fill_state(network, seed)
    network.double()
    shape = (rows, *shape)
    features = fill(seed, 1000, shape, 0.0, 1.7).double()
    labels = fill(seed, 1001, (rows, 1), 0.0, 1.7).double()
    variances = fill(seed, 1002, (rows, 1), 1.0, 1.0).double()
    loss = {"kind": "biv", "epsilon": EPSILON}
    with torch.no_grad():
        evaluation = network.eval()(features)
    network.train()
    training = network(features)
    value = total_loss(loss, training, labels, variances)
    value.backward()
    case = {
        "model": options,
        "seed": seed,
        "rows": rows,
        "loss": loss,
        "evaluation": evaluation.ravel().tolist(),
        "training": training.detach().ravel().tolist(),
        "running": {
            name: tensor.sum().item() for name, tensor in network.state_dict().items() if "running" in name
        },
    }
    if learning_rate is None:
        return case
    case["gradients"] = {
        name: {"norm": p.grad.norm().item(), "head": p.grad.ravel()[:HEAD].tolist()}
        for name, p in network.named_parameters()
    }
    case["learning_rate"] = learning_rate
    adam = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=False, foreach=False)
    fill_state(network, seed)
    losses = []
    for _ in range(IMAGE_STEPS):
        adam.zero_grad()
        value = total_loss(loss, network(features), labels, variances)
        value.backward()
        adam.step()
        losses.append(value.item())
    case["losses"] = losses
    return case


def make_images(seed):
    def resnet(depth, size):
        return {"kind": "resnet", "depth": depth, "height": size, "width": size}

    return {
        "torch": torch_version(),
        "cases": [
            # Not square, so that height and width cannot be exchanged.
            image_case({"kind": "vanilla_cnn", "height": 64, "width": 128}, seed, IMAGE_ROWS, 1e-4),
            image_case(resnet(18, 64), seed, IMAGE_ROWS, 1e-5),
            image_case(resnet(34, 64), seed, 3),
            image_case(resnet(50, 64), seed, 3),
        ],
    }


# --------------------------------------------------------------------------
# Networks by description, with weights and inputs as above

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}


class Residual(nn.Sequential):
    def __init__(self, layers, shortcut):
        super().__init__(*layers)
        self.downsample = nn.Sequential(*shortcut)

    def forward(self, x):
        body = x
        for name, layer in self.named_children():
            if name != "downsample":
                body = layer(body)
        return body + self.downsample(x)


def described(layers, shape):
    """The modules of `layers`, which take rows of `shape`, and the shape that they give."""
    modules = []
    for layer in layers:
        kind = layer["kind"]
        if kind == "linear":
            module = nn.Linear(shape[0], layer["outputs"], bias=layer.get("bias", True))
        elif kind == "conv2d":
            numbers = [layer["size"], layer.get("stride", 1), layer.get("padding", 0)]
            module = nn.Conv2d(shape[0], layer["outputs"], *numbers, bias=layer.get("bias", True))
        elif kind == "batch_norm":
            module = nn.BatchNorm1d(shape[0]) if len(shape) == 1 else nn.BatchNorm2d(shape[0])
        elif kind == "layer_norm":
            module = nn.LayerNorm(shape)
        elif kind == "activation":
            module = ACTIVATIONS[layer["function"]]()
        elif kind in ("max_pool", "avg_pool"):
            pool = nn.MaxPool2d if kind == "max_pool" else nn.AvgPool2d
            module = pool(layer["size"], layer.get("stride"), layer.get("padding", 0))
        elif kind == "global_avg_pool":
            module = nn.AdaptiveAvgPool2d(1)
        elif kind == "flatten":
            module = nn.Flatten()
        elif kind == "residual":
            module = Residual(described(layer["layers"], shape)[0], described(layer.get("shortcut", []), shape)[0])
        modules.append(module)
        with torch.no_grad():
            shape = list(module.eval()(torch.zeros(2, *shape)).shape[1:])
    return modules, shape


def make_layers(seed):
    def linear(outputs, **more):
        return {"kind": "linear", "outputs": outputs, **more}

    def conv(outputs, size, **more):
        return {"kind": "conv2d", "outputs": outputs, "size": size, **more}

    def function(name):
        return {"kind": "activation", "function": name}

    batch_norm, layer_norm, flatten = ({"kind": kind} for kind in ("batch_norm", "layer_norm", "flatten"))

    def case(shape, layers, rows=8):
        options = {"kind": "sequential", "input_shape": shape, "layers": layers}
        return network_case(nn.Sequential(*described(layers, shape)[0]), shape, options, seed, rows, 1e-4)

    tables = [
        case([7], [linear(12), *norm, function(name), linear(9), *norm, function(name), linear(1)], 24)
        for name in ACTIVATIONS
        for norm in ([], [batch_norm])
    ]
    # What no kernel of perceptrons takes: other norms, activations in other places, linear layers without a bias.
    tables += [
        case([7], [linear(12), layer_norm, function("gelu"), linear(5), function("tanh"), linear(1)], 24),
        case([5], [function("relu"), linear(6, bias=False), function("tanh"), function("relu"), linear(1)], 24),
        case([6], [linear(6), {"kind": "residual", "layers": [linear(6), batch_norm, function("relu"), linear(6)]},
                   function("relu"), linear(1)], 24),
        case([6], [{"kind": "residual", "layers": [function("relu"), linear(4), batch_norm],
                    "shortcut": [linear(4, bias=False)]}, function("relu"), linear(1)], 24),
    ]
    images = [
        case([3, 12, 9], [conv(8, 3, padding=1), batch_norm, function("relu"), {"kind": "max_pool", "size": 2},
                          conv(6, 3, stride=2, padding=1, bias=False), function("silu"),
                          {"kind": "avg_pool", "size": 2, "stride": 1, "padding": 1}, layer_norm, flatten, linear(1)]),
        case([2, 10, 14], [conv(4, 5), {"kind": "max_pool", "size": 3, "stride": 1, "padding": 1}, function("relu"),
                           {"kind": "residual", "layers": [conv(4, 3, padding=1), batch_norm, function("leaky_relu"),
                                                           conv(4, 1)]},
                           function("softplus"), {"kind": "global_avg_pool"}, flatten, linear(3), function("sigmoid"),
                           linear(1)]),
        # A ReLU after a view of what must stay.
        case([2, 4, 4], [function("tanh"), flatten, function("relu"), linear(1)]),
    ]
    return {"torch": torch_version(), "cases": tables + images}


# --------------------------------------------------------------------------
# Epsilon from the effective batch size


def effective_batch_size(variances, epsilon):
    weights = [1 / (v + epsilon) for v in variances]
    return sum(weights) ** 2 / sum(w * w for w in weights)


def smallest_epsilon(variances, target):
    """The smallest epsilon >= 0 whose effective batch size reaches target.

    Decimal arithmetic with 60 digits: rounding plays no part, however small
    or far apart the variances are. Bisection on the logarithm, to 1e-20.
    """
    with localcontext() as context:
        context.prec = 60
        variances = [Decimal(v) for v in variances]  # exact
        target = Decimal(target)
        assert 1 <= target < len(variances)

        def reached(epsilon):
            return effective_batch_size(variances, epsilon) >= target

        if min(variances) > 0 and reached(Decimal(0)):
            return 0.0
        high = max(variances)
        while not reached(high):
            high *= 2
        low = high / 2
        while reached(low):
            high, low = low, low / 2
        while high / low - 1 > Decimal("1e-20"):
            middle = (low * high).sqrt()
            if reached(middle):
                high = middle
            else:
                low = middle
        return float(high)


def make_epsilon(seed):
    rng = np.random.default_rng(seed + 20220166)
    gamma = rng.gamma(0.5, 2.0, size=32)
    binary = np.where(rng.random(16) < 0.5, rng.uniform(0, 0.1, 16), rng.uniform(4, 6, 16))
    problems = [
        (gamma * 1e-12, 16.0),
        (gamma * 1e-6, 16.0),
        (gamma, 16.0),
        (gamma * 1e6, 16.0),
        (gamma, 31.5),  # close to the number of samples
        (gamma, 24.32),  # a ratio of 0.76: not a whole number
        (binary, 12.0),
        (np.array([1.0, 2.0]), 1.9),
        (np.array([1e-12, 1e-6, 1.0, 1e6]), 2.0),
        (np.array([0.0, 1.0, 1.0, 2.0, 3.0]), 3.0),  # one clean label
        (np.array([0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 4.0, 8.0]), 4.0),  # two of them
        (np.array([1e-6, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), 6.0),
        (np.array([1.0, 1.1, 0.9, 1.2, 1.0, 0.8]), 3.0),  # reached at 0
        (np.full(8, 1e-6), 7.5),  # reached at 0
    ]
    cases = []
    for variances, target in problems:
        # Rounded to float32 first: the case is the same problem in both widths.
        variances = exact_list(variances.astype(np.float32))
        epsilon = smallest_epsilon(variances, target)
        cases.append({"variances": variances, "target": target, "epsilon": epsilon})
    return {"cases": cases}


# --------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, metavar="DIR",
                        help="where to write (default: this script's folder)")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other random inputs (default: 0)")
    arguments = parser.parse_args()
    out, seed = arguments.out, arguments.seed
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    write(out / "losses.json", make_losses(seed))
    write(out / "mlp_adam.json", make_mlp_adam(seed))
    write(out / "optimizers.json", make_optimizers(seed))
    write(out / "images.json", make_images(seed))
    write(out / "layers.json", make_layers(seed))
    write(out / "epsilon.json", make_epsilon(seed))


if __name__ == "__main__":
    main()
