"""One workload of the benchmark with JAX: a worker that run.py drives, as bench.c is for libbiv.

    jax_peer.py WORKLOAD [KEY=VALUE ...]

`variant` says how:

step    one call of a compiled function for each step
scan    one call for an epoch, or for a whole experiment: lax.scan over the mini-batches
scan-4  the same with four steps in each turn of the loop
vmap    one call for all experiments of a process in a sweep, side by side
"""

import functools
import math
import os

from worker import BETA1, BETA2, EPSILON, LEARNING_RATE, OPTIONS, Batches, give_up, imported, number, serve

VARIANT = OPTIONS.get("variant", "scan")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if number('threads', 1) > 1 else 'false'}"

try:
    import jax
    import jaxlib
    import numpy
    from jax import lax, numpy as jnp
except ImportError as missing:
    give_up(missing)

RANDOM = numpy.random.default_rng(0)
UNROLL = 4 if VARIANT == "scan-4" else 1
SIZES, SMALL = (19, 100, 50, 20, 10, 1), (10, 32, 16, 1)


def statistics(x, y):
    return x.mean(0), x.std(0), y.mean(), y.std()


def normalised(x, y, v, scale):
    mean, deviation, label_mean, label_deviation = scale
    return (x - mean) / deviation, (y - label_mean) / label_deviation, v / label_deviation**2


def table(rows):
    """The rows that bench.c exported, else rows like them."""
    if "import" in OPTIONS:
        x, y, v, _, scale = imported()
    else:
        x, v = RANDOM.random((rows, 19)), RANDOM.exponential(20, rows)
        y = 10 * x[:, 3] + 5 * x[:, 4] + numpy.sqrt(v) * RANDOM.standard_normal(rows)
        scale = statistics(x, y)
    return tuple(jnp.asarray(column, jnp.float32) for column in normalised(x, y, v, scale))


def network(sizes=SIZES):
    """A matrix and a bias for each layer, as torch.nn.Linear has and draws them."""
    shapes = [(outputs, inputs) for inputs, outputs in zip(sizes, sizes[1:])]
    flat = RANDOM.uniform(-1, 1, sum(outputs * (inputs + 1) for outputs, inputs in shapes))
    if "import" in OPTIONS:
        flat = imported()[3]
    weights, at = [], 0
    for outputs, inputs in shapes:
        weight, bias = numpy.split(flat[at : at + outputs * (inputs + 1)], [outputs * inputs])
        scale = 1 if "import" in OPTIONS else inputs**-0.5
        weights.append([jnp.asarray(scale * part, jnp.float32) for part in (weight.reshape(outputs, inputs), bias)])
        at += outputs * (inputs + 1)
    return weights


def forward(weights, x):
    """The predictions. Inside, each row is a column: XLA's products of matrices are faster so."""
    x = x.T
    for layer, (weight, bias) in enumerate(weights):
        x = weight @ (jax.nn.relu(x) if layer else x) + bias[:, None]
    return x[0]


def loss(weights, x, y, v, biv):
    coefficient = jnp.where(biv, 1 / (v + 0.1), 1)
    return (coefficient * (forward(weights, x) - y) ** 2).sum() / coefficient.sum()


def error(weights, x, y):
    """On a test set, in one batch."""
    return jnp.sqrt(((forward(weights, x) - y) ** 2).mean())


def start(weights):
    """The state of the training: weights, Adam's two means, the number of steps."""
    zeros = jax.tree.map(jnp.zeros_like, weights)
    return jax.tree.map(jnp.copy, (weights, zeros, zeros, jnp.float32(0)))


def step(state, batch, biv):
    weights, mean, square, count = state
    value, gradient = jax.value_and_grad(loss)(weights, *batch, biv)
    count += 1
    mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, mean, gradient)
    square = jax.tree.map(lambda s, g: BETA2 * s + (1 - BETA2) * g * g, square, gradient)
    # 1 - beta^count, exact in f32 for the first steps too
    rate, scale = -LEARNING_RATE / jnp.expm1(count * math.log(BETA1)), lax.rsqrt(-jnp.expm1(count * math.log(BETA2)))
    weights = jax.tree.map(lambda w, m, s: w - rate * m / (jnp.sqrt(s) * scale + EPSILON), weights, mean, square)
    return (weights, mean, square, count), value


def train(state, data, rows, biv=True, then=lambda state: 0):
    """A step on each mini-batch of `rows`; gives the losses, and what `then` finds after each step."""

    def step_and_then(state, batch):
        state, value = step(state, batch, biv)
        return state, (value, then(state))

    return lax.scan(step_and_then, state, [column.at[rows].get(mode="promise_in_bounds") for column in data],
                    unroll=UNROLL)


def experiment(weights, x, y, size, key, orders, biv=True, every_step=False):
    """Training on the first `size` rows, with noise, and the errors on the others, after each epoch or each step."""
    key_variance, key_noise = jax.random.split(key)
    v = jax.random.exponential(key_variance, (size,)) * y[:size].var()
    scale = statistics(x[:size], y[:size])
    x, y, v = normalised(x, y, v, scale)
    data = x[:size], y[:size] + jnp.sqrt(v) * jax.random.normal(key_noise, (size,)), v
    test = lambda state: error(state[0], x[size:], y[size:])

    def epoch(state, rows):
        state, (_, errors) = train(state, data, rows, biv, test if every_step else lambda state: 0)
        return state, errors[-1] if every_step else test(state)

    return lax.scan(epoch, start(weights), orders)[1][-1] * scale[-1]


def batches_of(batches, count):
    return numpy.stack([batches.next() for _ in range(count)]).astype(numpy.int32)


def prepare_step(permutation=RANDOM.permutation):
    data, state = table(number("rows", 7000)), start(network())
    batches = Batches(len(data[1]), number("batch", 256), permutation)
    group = 1 if VARIANT == "step" else 27
    run = jax.jit(train, donate_argnums=0)

    def work(count):
        nonlocal state
        for at in range(0, count, group):
            state, (losses, _) = run(state, data, batches_of(batches, min(group, count - at)))
        return float(losses[-1])

    return work


def prepare_given():
    return prepare_step(numpy.arange)


def prepare_epoch():
    data, (x, y, _), state = table(7000), table(3379), start(network())
    batches = Batches(7000, 256, RANDOM.permutation)

    def epoch(state, rows):
        state, (losses, _) = train(state, data, rows)
        return state, losses.mean(), error(state[0], x, y)

    run = jax.jit(epoch, donate_argnums=0)

    def work(count):
        nonlocal state
        for _ in range(count):
            state, value, test_error = run(state, batches_of(batches, 27))
            float(test_error)
        return float(value)

    return work


def prepare_experiment():
    """The bike experiment from data in memory: 100 epochs of 7,000 rows, 3,379 test rows."""
    cells = jnp.asarray(numpy.loadtxt(OPTIONS["csv"], delimiter=",", skiprows=1, dtype=numpy.float32))
    weights, every_step = network(), OPTIONS.get("evaluate") == "steps"

    @jax.jit
    def run(order, key, orders):
        x, y = cells[order, :-1], cells[order, -1]
        return experiment(weights, x, y, 7000, key, orders, every_step=every_step)

    def work(count):
        for _ in range(count):
            batches = Batches(7000, 256, RANDOM.permutation)
            orders = batches_of(batches, 2700).reshape(100, 27, 256)
            rmse = float(run(RANDOM.permutation(len(cells)), jax.random.key(RANDOM.integers(2**31)), orders))
        return rmse

    return work


def small_experiment(weights, key, orders, biv):
    """One of a sweep's: 40 epochs on 2,000 rows of ten features, 1,000 test rows."""
    key_features, key = jax.random.split(key)
    x = jax.random.uniform(key_features, (3000, 10))
    y = 10 * jnp.sin(jnp.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return experiment(weights, x, y, 2000, key, orders, biv)


@functools.cache
def compiled_sweep():
    return jax.jit(jax.vmap(small_experiment) if VARIANT == "vmap" else small_experiment)


def part_of_sweep(seeds, losses):
    """The test errors of some experiments: side by side in one call (vmap), or with a call for each."""
    run, drawn = compiled_sweep(), []
    for seed in seeds:
        batches = Batches(2000, 64, numpy.random.default_rng(seed).permutation)
        drawn.append((network(SMALL), jax.random.key(seed), batches_of(batches, 40 * 31).reshape(40, 31, 64)))
    if VARIANT == "vmap":
        return numpy.asarray(run(*jax.tree.map(lambda *one: jnp.stack(one), *drawn), losses)).tolist()
    return [float(run(*given, biv)) for given, biv in zip(drawn, losses)]


def prepare_sweep():
    """8 seeds x 2 losses, in so many processes."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    jobs = number("jobs", 1)
    parts = [numpy.array_split(whole, jobs) for whole in ([*range(8)] * 2, numpy.repeat([False, True], 8))]
    each = map if jobs == 1 else ProcessPoolExecutor(jobs, get_context("spawn")).map
    return lambda count: [list(each(part_of_sweep, *parts)) for _ in range(count)][-1][-1][-1]


if __name__ == "__main__":
    serve(globals(), {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "numpy": numpy.__version__})
