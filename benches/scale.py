#!/usr/bin/env python3
"""Predicts how data-parallel training scales, and prints the tables of docs/scale.md.

    scale.py [FILE]

FILE, by default scale.json beside this script, has the input: measured times of all-reduces and steps, and assumed
links. All times are in seconds, bandwidths in bytes a second of one link in one direction. A latency that is "fitted"
is the one of the measured all-reduces. "measured" may have steps of real runs, to be compared with the prediction:
{"network": NAME, "cluster": NAME, "ranks": N, "seconds": S}.
"""

import json
import math
import pathlib
import sys

F32 = 4  # bytes of a gradient's number


def ring(ranks, size, link):
    """All-reduce in a ring: 2 (n - 1) hops, on each of which a rank sends 1/n of the bytes."""
    return 2 * (ranks - 1) * (link["latency"] + size / ranks / link["bandwidth"])


def fit(measured):
    """The latency and the bandwidth of ring() that have the least squares of relative errors."""
    n, points = measured["ranks"], measured["points"]
    rows = [(2 * (n - 1) / p["seconds"], 2 * (n - 1) * p["bytes"] / n / p["seconds"]) for p in points]
    aa, ab, bb = (sum(row[i] * row[j] for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    a, b = sum(row[0] for row in rows), sum(row[1] for row in rows)
    determinant = aa * bb - ab * ab
    return {"latency": (a * bb - b * ab) / determinant, "bandwidth": determinant / (b * aa - a * ab)}


class Model:
    def __init__(self, given):
        self.given, self.fitted = given, fit(given["all_reduce"])
        self.links = {name: link | ({"latency": self.fitted["latency"]} if link["latency"] == "fitted" else {})
                      for name, link in given["links"].items()}

    def flat(self, cluster, ranks, size):
        """One ring through all ranks: between nodes it has one link."""
        inside = ranks <= cluster["node"] and ranks > 1 and "inside" in cluster
        return ring(ranks, size, self.links[cluster["inside" if inside else "between"]])

    def hierarchical(self, cluster, ranks, size, tree=False):
        """A ring in each node, of which each rank keeps one part; rings (or trees) of the same parts between nodes."""
        local = min(cluster["node"], ranks)
        if ranks <= local:
            return self.flat(cluster, ranks, size)
        nodes, link = math.ceil(ranks / local), self.links[cluster["between"]]
        # The parts of a node go out at the same time and share its links.
        link = link | {"bandwidth": link["bandwidth"] * cluster["links_of_a_node"] / local}
        hops = 2 * math.log2(nodes) if tree else 2 * (nodes - 1)
        between = hops * link["latency"] + 2 * (nodes - 1) / nodes * size / local / link["bandwidth"]
        return between + (ring(local, size, self.links[cluster["inside"]]) if local > 1 else 0)

    def step(self, network, exchange):
        """A step, with the exchange after the backward pass, and with buckets that are exchanged during it.

        `exchange` gives the time for a number of bytes. The last bucket is exchanged when the backward pass has ended.
        """
        network, buckets = self.given["networks"][network], self.given["buckets"]
        size = F32 * (network["weights"] + 1)
        whole, bucket = exchange(size), exchange(size / buckets)
        exposed = max(bucket, buckets * bucket - self.given["backward"] * network["step"])
        return network["step"] + whole, network["step"] + min(whole, exposed)

    def best(self, network, cluster, ranks):
        """The step with the hierarchical all-reduce."""
        return self.step(network, lambda size: self.hierarchical(self.given["clusters"][cluster], ranks, size))


def table(header, rows):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows])


def percent(part):
    return f"{100 * part:.2g}" if part < 0.1 else f"{100 * part:.0f}"


def duration(seconds):
    unit, size = next(((unit, size) for unit, size in (("s", 1), ("ms", 1e-3)) if seconds >= size), ("µs", 1e-6))
    return f"{seconds / size:.3g} {unit}"


def assumptions(model):
    given = model.given
    rows = [[name, str(network["rows"]), f"{network['weights']:,}", duration(network["step"]), network["source"]]
            for name, network in given["networks"].items()]
    links = [[name, duration(link["latency"]), f"{link['bandwidth'] / 1e9:g} GB/s", link["source"]]
             for name, link in model.links.items()]
    return [table(["network", "rows of a rank", "weights", "step of one rank", "where from"], rows),
            table(["link", "latency of a hop", "bandwidth used", "where from"], links)]


def fitted(model):
    measured = model.given["all_reduce"]
    rows = [[f"{p['bytes']:,}", duration(p["seconds"]), duration(ring(measured["ranks"], p["bytes"], model.fitted))]
            for p in measured["points"]]
    return [f"Fitted: {duration(model.fitted['latency'])} a hop, {model.fitted['bandwidth'] / 1e9:.2f} GB/s.",
            table(["bytes, 2 ranks", "measured", "model"], rows)]


def efficiencies(model):
    rows = []
    for network, cluster in model.given["cases"]:
        alone = model.given["networks"][network]["step"]
        cells = [" / ".join(percent(alone / step) for step in model.best(network, cluster, n))
                 for n in model.given["ranks"]]
        rows.append([network, cluster, *cells])
    return table(["network", "between nodes", *(f"{n:,}" for n in model.given["ranks"])], rows)


def least_rows(model, wanted=0.8):
    """Rows of a rank from which the step is long enough: it is taken as proportional to its rows."""
    rows = []
    for network, cluster in model.given["cases"]:
        one, cells = model.given["networks"][network], []
        for n in model.given["ranks"]:
            exchange = model.best(network, cluster, n)[0] - one["step"]
            least = math.ceil(exchange * wanted / (1 - wanted) / one["step"] * one["rows"])
            cells.append(f"{least:,}")
        rows.append([network, cluster, *cells])
    return table(["network", "between nodes", *(f"{n:,}" for n in model.given["ranks"])], rows)


def ways(model, ranks):
    """What other ways to exchange would bring."""
    rows = []
    for network, name in model.given["cases"]:
        cluster, alone = model.given["clusters"][name], model.given["networks"][network]["step"]
        exchanges = [lambda size: model.flat(cluster, ranks, size), lambda size: model.hierarchical(cluster, ranks, size),
                     lambda size: model.hierarchical(cluster, ranks, size / 2),
                     lambda size: model.hierarchical(cluster, ranks, size, tree=True),
                     lambda size: model.hierarchical(cluster, ranks, size / 2, tree=True)]
        rows.append([network, name, *(" / ".join(percent(alone / step) for step in model.step(network, exchange))
                                      for exchange in exchanges)])
    return table(["network", "between nodes", "one ring", "rings in two levels", "and bf16 gradients",
                  "trees between nodes", "and bf16 gradients"], rows)


def comparison(model):
    rows = []
    for run in model.given["measured"]:
        after, during = model.best(run["network"], run["cluster"], run["ranks"])
        rows.append([run["network"], run["cluster"], str(run["ranks"]), duration(run["seconds"]), duration(after),
                     duration(during)])
    return table(["network", "between nodes", "ranks", "measured step", "model, exchange after", "during"], rows)


def main():
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).with_name("scale.json")
    model = Model(json.loads(path.read_text()))
    parts = [*fitted(model), *assumptions(model), efficiencies(model), least_rows(model),
             ways(model, max(model.given["ranks"]))]
    if model.given["measured"]:
        parts.append(comparison(model))
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
