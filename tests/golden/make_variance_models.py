#!/usr/bin/env python3
"""Write the variance models that the tests compare libbiv with: variance_models.json.

Computed with NumPy over the whole grid of epsilons, by the definition (docs/fit.md). It shares no code with libbiv.

    python tests/golden/make_variance_models.py [--out FILE]

README.md, beside this file, describes the fields.
"""

import argparse
import json
from pathlib import Path

import numpy as np

GRID = 64


def bisect(f, low, high):
    """Where f, which rises, is 0."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) < 0 else (low, middle)
    return high


def variance_model(r, v):
    r2, rows = r * r, len(r)
    equal = {"epsilon": None, "scale": 0.0, "tau2": float(r2.mean())}
    if rows < 30:
        return {**equal, "verdict": "too-few-rows"}
    if v.max() <= v.min() * (1 + 1e-9):
        return {**equal, "verdict": "equal-variances"}
    if r2.mean() <= 0:
        return {**equal, "verdict": "zero-residuals"}
    mean = v.mean()
    floor = v.max() * 10 ** bisect(lambda log: ((1 + v / (v.max() * 10**log)) ** -2).sum() - 2, -16, 4)
    floor = max(floor, 1e-6 * mean)
    tau2_pm = 0.0
    if (r2 / np.maximum(v, 1e-300)).mean() > 1:
        tau2_pm = bisect(lambda tau2: 1 - (r2 / (v + tau2)).mean(), 0.0, r2.mean())
    epsilons = np.append(np.geomspace(floor, max(1e3 * mean, 10 * floor), GRID), np.inf)
    u = np.stack([np.ones(rows) if np.isinf(e) else (v + e) / (mean + e) for e in epsilons])
    c = (r2 / u).mean(1)
    loss = np.log(c[:, None] * u) + r2 / (c[:, None] * u)
    best = int(loss.mean(1).argmin())
    difference = loss - loss[best]
    error = difference.std(1) / np.sqrt(rows)
    chosen = int(np.flatnonzero(difference.mean(1) <= error).max())
    epsilon = epsilons[chosen]
    if max(tau2_pm, floor) > epsilon:
        epsilon = max(tau2_pm, floor)
        scale, tau2, verdict = 1.0, epsilon, "paule-mandel"
    elif np.isinf(epsilon):
        scale, tau2, verdict = 0.0, float(r2.mean()), "mse"
    else:
        scale = c[chosen] / (mean + epsilon)
        tau2, verdict = scale * epsilon, "floor" if chosen == 0 else "profile"
    return {
        "epsilon": None if np.isinf(epsilon) else float(epsilon),
        "scale": float(scale),
        "tau2": float(tau2),
        "tau2_pm": float(tau2_pm),
        "gain": float(difference.mean(1)[-1] / 2),
        "gain_se": float(error[-1] / 2),
        "mean_z2": float((r2 / (scale * v + tau2)).mean()),
        "verdict": verdict,
    }


def uniform(seed, index, count):
    """Numbers in [-1, 1) that both sides compute: as `fill` in make_goldens.py, in float64."""
    offset = (0x9E3779B9 * index + 0x85EBCA6B * seed) % 2**32
    h = np.arange(count, dtype=np.uint32) + np.uint32(offset)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float64) / 2**23 - 1


def random_case(seed):
    """Residuals and variances of case number `seed`."""
    rows = 30 + seed * 7919 % 471
    first, second, third = (uniform(seed, index, rows) for index in range(3))
    normal = np.sqrt(-2 * np.log((first + 1 + 2**-24) / 2)) * np.cos(np.pi * second)
    v = [(third + 1) / 2, -np.log((third + 1 + 2**-24) / 2), 10 ** (3 * third), np.where(third < 0, 0.05, 2.0)][seed % 4]
    if seed % 5 == 0:
        v[: rows // 20] = 0
    scale, tau2 = [1.0, 0.3, 2.0, 0.01][seed // 4 % 4], 10 ** (seed % 13 / 3 - 3)
    shift = rows // 2 if seed % 7 == 0 else 0
    return np.sqrt(scale * v + tau2) * normal, np.roll(v, shift)


def make():
    rng = np.random.default_rng(0)
    v = rng.gamma(1.0, 1.0, 1000)
    z = rng.standard_normal(1000)
    order = rng.permutation(1000)
    few = v.copy()
    few[:50] = 0
    decades = 10 ** rng.uniform(-12, 0, 1000)
    table = [
        ("gamma", np.sqrt(v + 0.25) * z, v),
        ("gamma x 100", np.sqrt(v + 0.25) * z, 100 * v),
        ("gamma / 100", np.sqrt(v + 0.25) * z, v / 100),
        ("shuffled", np.sqrt(v + 0.25) * z, v[order]),
        ("misfit 100 times the noise", np.sqrt(v + 100) * z, v),
        ("no misfit", np.sqrt(v) * z, v),
        ("5 % are 0", np.sqrt(few + 0.25) * z, few),
        ("12 decades", np.sqrt(decades + 1e-3) * z, decades),
        ("misfit in proportion", np.sqrt(10 * v + 0.1) * z, v),
    ]
    return {
        "variances": v.tolist(),
        "normal": z.tolist(),
        "order": order.tolist(),
        "decades": decades.tolist(),
        "table": [{"name": name, **variance_model(r, variances)} for name, r, variances in table],
        "cases": [variance_model(*random_case(seed)) for seed in range(1000)],
    }


def rounded(value):
    if isinstance(value, dict):
        return {name: value if name in ("variances", "normal", "decades") else rounded(value) for name, value in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "variance_models.json")
    out = parser.parse_args().out
    content = rounded(make())
    lines = [f"{json.dumps(name)}: {json.dumps(content[name])}" for name in ("variances", "normal", "order", "decades")]
    for name in ("table", "cases"):
        lines.append(f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(case) for case in content[name]) + "\n]")
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
