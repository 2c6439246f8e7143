"""What the benchmark's workers in Python have in common: their options and the conversation with run.py.

A worker prepares, prints a line of JSON, and then, for every number on its standard input,
does so many units of work and prints how long they took.
"""

import json
import pathlib
import sys
import time

OPTIONS = dict(argument.split("=", 1) for argument in sys.argv[2:])
LEARNING_RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8


def number(key, otherwise):
    return int(float(OPTIONS.get(key, otherwise)))


def imported():
    """What bench.c exported, as numpy's arrays: features, labels, variances, the weights in one piece, and libbiv's
    means and deviations of features and labels.
    """
    import numpy

    folder = pathlib.Path(OPTIONS["import"])
    y, v = (numpy.fromfile(folder / name) for name in ("labels", "variances"))
    x, weights = (numpy.fromfile(folder / name, dtype=numpy.float32) for name in ("features", "weights"))
    scale = json.loads((folder / "model.json").read_text())["normalization"]
    names = ("feature_mean", "feature_std", "label_mean", "label_std")
    return x.reshape(len(y), -1), y, v, weights, [numpy.array(scale[name]) for name in names]


class Batches:
    """Mini-batches of rows in the order of `permutation`, epoch after epoch; the last incomplete one is left out."""

    def __init__(self, rows, batch, permutation):
        self.rows, self.batch, self.permutation = rows, batch, permutation
        self.at, self.order = 0, permutation(rows)

    def next(self):
        if self.at + self.batch > self.rows:
            self.at, self.order = 0, self.permutation(self.rows)
        self.at += self.batch
        return self.order[self.at - self.batch : self.at]


def say(answer):
    print(json.dumps(answer), flush=True)


def give_up(reason):
    """Leaves the measurement to the others."""
    say({"skip": f"{type(reason).__name__}: {reason}".splitlines()[0]})
    sys.exit()


def memory():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return {key: float(status[name].split()[0]) / 1024 for key, name in (("resident", "VmRSS"), ("peak", "VmHWM"))}


def serve(functions, versions):
    """Prepares the workload of the command line with its function of `functions`, then works as it is told."""
    try:
        work = functions["prepare_" + sys.argv[1]]()
        say({"ready": versions | {"python": sys.version.split()[0]}})
        for line in sys.stdin:
            start = time.perf_counter()
            value = work(int(line))
            say({"seconds": time.perf_counter() - start, "value": value} | memory())
    except Exception as error:  # No compiler for torch.compile, no Pillow.
        give_up(error)
