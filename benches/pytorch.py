"""One workload of the benchmark with PyTorch: a worker that run.py drives, as bench.c is for libbiv.

    pytorch.py WORKLOAD [KEY=VALUE ...]

`variant` says how:

eager           Adam as it is by default
fused           Adam's fused kernel
compiled        network and loss by torch.compile, fused Adam
compiled-whole  gather, forward, backward and Adam as one compiled function of one flat vector of weights
published       as fused, with rows that are fetched one by one, as in the code published with the method
"""

import pathlib

from worker import BETA1, BETA2, EPSILON, LEARNING_RATE, OPTIONS, Batches, give_up, imported, number, serve

try:
    import numpy
    import torch
except ImportError as missing:
    give_up(missing)

from networks import ResNet18, mlp, vanilla_cnn

VARIANT = OPTIONS.get("variant", "eager")


def biv_loss(prediction, label, variance, epsilon=0.1):
    weight = 1 / (variance + epsilon)
    return (weight * (prediction - label) ** 2).sum() / weight.sum()


def mse_loss(prediction, label, variance):
    return ((prediction - label) ** 2).mean()


class Table:
    """Features, labels and variances in memory, normalised by their own statistics or by those of `scale`."""

    def __init__(self, x, y, v, scale=None):
        deviation, mean = torch.std_mean(x, dim=0, correction=0)
        self.scale = scale or (mean, deviation, y.mean(), y.std(correction=0))
        mean, deviation = self.scale[:2]
        self.x, self.y, self.v = x.sub_(mean).div_(deviation), *self.normalised(y, v)

    def normalised(self, y, v):
        _, _, mean, deviation = self.scale
        return ((y - mean) / deviation).float(), (v / deviation**2).float()


def table(rows):
    """The rows that bench.c exported, else rows like them."""
    if "import" in OPTIONS:
        x, y, v, _, scale = imported()
        return Table(*map(torch.from_numpy, (x, y, v)), [torch.from_numpy(part) for part in scale])
    x = torch.rand(rows, 19)
    v = torch.empty(rows).exponential_(0.05)
    return Table(x, 10 * x[:, 3] + 5 * x[:, 4] + v.sqrt() * torch.randn(rows), v)


def network():
    width = number("width", 1)
    net = mlp([19, *(width * size for size in (100, 50, 20, 10)), 1])
    if "import" in OPTIONS:
        torch.nn.utils.vector_to_parameters(torch.from_numpy(imported()[3]), net.parameters())
    return net


class ModuleStep:
    """A training step in the usual way: a module, autograd, an optimiser."""

    def __init__(self, net, loss, data):
        self.net, self.data = net, data
        self.initial = [parameter.detach().clone() for parameter in net.parameters()]
        compiled = VARIANT.startswith("compiled")
        self.predict = torch.compile(self.forward) if compiled else self.forward
        self.loss = torch.compile(lambda x, y, v: loss(self.forward(x), y, v)) if compiled else (
            lambda x, y, v: loss(self.forward(x), y, v))
        self.optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=VARIANT != "eager")

    def forward(self, x):
        return self.net(x).squeeze(1)

    def reset(self):
        with torch.no_grad():
            for parameter, initial in zip(self.net.parameters(), self.initial):
                parameter.copy_(initial)
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()

    def __call__(self, rows):
        x, y, v = self.data.x[rows], self.data.y[rows], self.data.v[rows]
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(x, y, v)
        loss.backward()
        self.optimizer.step()
        return loss


class WholeStep:
    """The same as one compiled function, the weights one flat vector: nothing of Python is left inside."""

    def __init__(self, net, loss, data):
        self.data = data
        self.initial = torch.nn.utils.parameters_to_vector(net.parameters()).detach().clone()
        self.weights = self.initial.clone()
        self.mean, self.square = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.count = torch.zeros((), dtype=torch.float64)
        layers = [layer for layer in net if isinstance(layer, torch.nn.Linear)]

        def forward(weights, x):
            at = 0
            for layer in layers:
                outputs, inputs = layer.weight.shape
                weight = weights[at : at + inputs * outputs].view(outputs, inputs)
                bias = weights[at + inputs * outputs : at + (inputs + 1) * outputs]
                at += (inputs + 1) * outputs
                x = torch.nn.functional.linear(x, weight, bias)
                x = x if layer is layers[-1] else torch.relu(x)
            return x.squeeze(1)

        def step(weights, mean, square, count, x, y, v, rows):
            x, y, v = x[rows], y[rows], v[rows]
            gradient, value = torch.func.grad_and_value(lambda weights: loss(forward(weights, x), y, v))(weights)
            mean.lerp_(gradient, 1 - BETA1)
            square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            rate, scale = (LEARNING_RATE / (1 - BETA1**count)).float(), (1 - BETA2**count).rsqrt().float()
            weights.sub_(rate * mean / (square.sqrt() * scale + EPSILON))
            return value

        best = {"cpp_wrapper": True, "max_autotune": True}
        self.step, self.compiled_forward = torch.compile(step, options=best), torch.compile(forward)

    def predict(self, x):
        return self.compiled_forward(self.weights, x)

    def reset(self):
        self.weights.copy_(self.initial)
        for state in (self.mean, self.square, self.count):
            state.zero_()

    def __call__(self, rows):
        with torch.no_grad():
            data = self.data
            self.count.add_(1)
            return self.step(self.weights, self.mean, self.square, self.count, data.x, data.y, data.v, rows)


def make_step(net, loss, data):
    return (WholeStep if VARIANT == "compiled-whole" else ModuleStep)(net, loss, data)


def evaluate(step, x, y):
    """The error on a test set, in one batch."""
    with torch.no_grad():
        return (step.predict(x) - y).square().mean().sqrt()


def prepare_step(permutation=torch.randperm):
    data = table(number("rows", 7000))
    step, order = make_step(network(), biv_loss, data), Batches(len(data.y), number("batch", 256), permutation)

    def work(count):
        for _ in range(count):
            loss = step(order.next())
        return loss.item()

    return work


def prepare_given():
    return prepare_step(torch.arange)


def prepare_epoch():
    data, test = table(7000), table(3379)
    step, order = make_step(network(), biv_loss, data), Batches(7000, 256, torch.randperm)

    def work(count):
        for _ in range(count):
            losses = [step(order.next()) for _ in range(7000 // 256)]
            evaluate(step, test.x, test.y).item()
        return torch.stack(losses).mean().item()

    return work


def prepare_step_and_test():
    """Steps in the way of the published code, each followed by the error on the test set."""
    from torch.utils.data import DataLoader, TensorDataset

    data, test = table(7000), table(3379)
    step, rows = make_step(network(), biv_loss, data), TensorDataset(data.x, data.y, data.v)
    train_rows = DataLoader(rows, batch_size=256, shuffle=True, drop_last=True)
    test_rows = DataLoader(TensorDataset(test.x, test.y), batch_size=256)

    def batches():
        while True:
            yield from train_rows

    order = batches()

    def work(count):
        for _ in range(count):
            data.x, data.y, data.v = next(order)
            step(slice(None)).item()
            with torch.no_grad():
                squares = [(step.predict(x) - y).square().sum().item() for x, y in test_rows]
        return (sum(squares) / len(test.y)) ** 0.5

    return work


def prepare_experiment():
    """The bike experiment as a tidy program in memory would be: 100 epochs of 7,000 rows, 3,379 test rows."""
    cells = torch.from_numpy(numpy.loadtxt(OPTIONS["csv"], delimiter=",", skiprows=1, dtype=numpy.float32))
    every_step, step = OPTIONS.get("evaluate") == "steps", None

    def work(count):
        nonlocal step
        for _ in range(count):
            shuffled = cells[torch.randperm(len(cells))]
            train, test = shuffled[:7000], shuffled[-3379:]
            v = torch.empty(7000).exponential_(1) * train[:, -1].var(correction=0)
            data = Table(train[:, :-1].clone(), train[:, -1], v)
            mean, deviation, label_mean, label_deviation = data.scale
            data.y = data.y + data.v.sqrt() * torch.randn(7000)
            x, y = (test[:, :-1] - mean) / deviation, (test[:, -1] - label_mean) / label_deviation
            if step is None:
                step = make_step(network(), biv_loss, data)
            step.data = data
            step.reset()
            order, losses, errors = Batches(7000, 256, torch.randperm), [], []
            for _ in range(100):
                for _ in range(7000 // 256):
                    losses.append(step(order.next()).item())
                    if every_step:
                        errors.append(evaluate(step, x, y).item())
                if not every_step:
                    errors.append(evaluate(step, x, y).item())
        return errors[-1] * label_deviation.item()

    return work


def small_experiment(seed, loss):
    """One of a sweep's: 40 epochs on 2,000 rows of ten features, 1,000 test rows."""
    torch.manual_seed(seed)
    x = torch.rand(3000, 10)
    y = 10 * torch.sin(torch.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    v = torch.empty(2000).exponential_(1) * y[:2000].var(correction=0)
    data = Table(x[:2000].clone(), y[:2000], v)
    mean, deviation, label_mean, label_deviation = data.scale
    data.y = data.y + data.v.sqrt() * torch.randn(2000)
    test_x, test_y = (x[2000:] - mean) / deviation, (y[2000:] - label_mean) / label_deviation
    step, order = ModuleStep(mlp([10, 32, 16, 1]), loss, data), Batches(2000, 64, torch.randperm)
    for _ in range(40):
        for _ in range(2000 // 64):
            step(order.next()).item()
        error = evaluate(step, test_x, test_y).item()
    return error


def prepare_sweep():
    """8 seeds x 2 losses, in so many processes: Python's threads would take turns."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    runs = [(seed, loss) for loss in (mse_loss, biv_loss) for seed in range(8)]
    if number("jobs", 1) == 1:
        return lambda count: [small_experiment(*run) for _ in range(count) for run in runs][-1]
    pool = ProcessPoolExecutor(number("jobs", 1), get_context("fork"), torch.set_num_threads, (1,))
    return lambda count: [list(pool.map(small_experiment, *zip(*runs))) for _ in range(count)][-1][-1]


def prepare_images():
    """Variants: eager or compiled, then -cl for channels-last. The images are bytes in memory, as libbiv's are."""
    net = vanilla_cnn() if OPTIONS.get("model", "vanilla_cnn") == "vanilla_cnn" else ResNet18()
    channels_last, bf16 = VARIANT.endswith("-cl"), OPTIONS.get("precision") == "bf16"
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    forward = torch.compile(net) if VARIANT.startswith("compiled") else net
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)
    images = torch.randint(0, 256, (256, 3, 200, 200), dtype=torch.uint8)
    labels, variances = torch.randn(256), torch.rand(256)
    order = Batches(256, number("batch", 64), torch.randperm)

    def step():
        rows = order.next()
        x = images[rows].float().mul_(1 / (255 * 0.25)).sub_(2)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            prediction = forward(x)
        loss = biv_loss(prediction.float().squeeze(1), labels[rows], variances[rows])
        loss.backward()
        optimizer.step()
        return loss

    return lambda count: [step() for _ in range(count)][-1].item()


def prepare_predict():
    """From features to predictions in their own units, with the normalisation."""
    net, x = network(), torch.rand(number("rows", 100000), 19)
    mean, deviation = torch.full((19,), 0.5), torch.full((19,), 0.3)

    def predict(x):
        return net((x - mean) / deviation).squeeze(1) * 5 + 14

    predict = torch.compile(predict) if VARIANT == "compiled" else predict

    def work(count):
        with torch.inference_mode():
            for _ in range(count):
                y = predict(x)
        return y[0].item()

    return work


def prepare_read_csv():
    """Variants: numpy, pandas."""
    if VARIANT == "pandas":
        import pandas

        read = lambda: torch.from_numpy(pandas.read_csv(OPTIONS["csv"], dtype=numpy.float32).values)
    else:
        read = lambda: torch.from_numpy(numpy.loadtxt(OPTIONS["csv"], delimiter=",", skiprows=1, dtype=numpy.float32))
    return lambda count: [len(read()) for _ in range(count)][-1]


def prepare_read_images():
    """Pillow, in so many threads: it lets go of the interpreter's lock while it decodes."""
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image

    files = sorted(pathlib.Path(OPTIONS["folder"]).glob("*.jpg"))
    pool = ThreadPoolExecutor(number("threads", 1))

    def read(path):
        return torch.from_numpy(numpy.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)

    return lambda count: [len(torch.stack(list(pool.map(read, files)))) for _ in range(count)][-1]


if __name__ == "__main__":
    torch.set_num_threads(number("threads", 1))
    torch.manual_seed(0)
    serve(globals(), {"torch": torch.__version__, "numpy": numpy.__version__})
