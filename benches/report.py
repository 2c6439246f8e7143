"""The tables of a measurement."""

import json
import pathlib
import statistics

from workloads import library

BEGIN, END = "<!-- bench: written by make bench -->", "<!-- bench: end -->"
SERIES = {"batch": "rows in the mini-batch, of 32,768", "width": "width of the hidden layers, times 100-50-20-10",
          "rows": "training rows of 19 features"}


def duration(seconds):
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if seconds >= size:
            break
    return f"{seconds / size:.3g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"


def figure(result, variant):
    """One variant's measurement as it is read: a time per unit, or items per second."""
    seconds = result["seconds"][variant]
    if not result["rate"]:
        return duration(seconds)
    rate = result["rate"] / seconds
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


def ratio(peer):
    low, high = peer["ratios"]
    return f"{peer['ratio']:.2f} ({low:.2f} to {high:.2f})"


def line(result):
    """One result on the terminal."""
    parts = [f"{variant} {figure(result, variant)}" for variant in result["seconds"]]
    ratios = [f"; {name} x {ratio(peer)}" for name, peer in result["peers"].items()]
    return f"{result['title']}: " + ", ".join(parts) + "".join(ratios)


def table(header, rows):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows])


def peer_cells(result, name):
    """A peer's fastest variant, how many times as fast libbiv is, its other variants, the memory."""
    best = result["peers"].get(name, {}).get("best")
    rest = [variant for variant in result["seconds"] if library(variant) == name and variant != best]
    others = [f"{variant.split()[-1]} {figure(result, variant)}" for variant in rest]
    others += [f"{variant} skipped" for variant in result["skipped"] if library(variant) == name]
    memory = [f"{result['peak'][variant]:,.0f}" for variant in ("libbiv", best) if variant]
    return [f"{figure(result, best)} {best}" if best else "", f"**{ratio(result['peers'][name])}**" if best else "",
            ", ".join(others), " / ".join(memory)]


def comparison(results):
    """A row for each peer of each result; what libbiv did stands in the first of them."""
    rows = []
    for result in (result for result in results if result["workload"] != "cores"):
        names = dict.fromkeys(library(variant) for variant in [*result["seconds"], *result["skipped"]])
        work = [result["title"], figure(result, "libbiv")]
        for name in [name for name in names if name != "libbiv"] or [""]:
            rows.append([*work, *peer_cells(result, name)])
            work = ["", ""]
    header = ["work", "libbiv", "a peer at its best", "times as fast", "the peer otherwise", "peak MiB, libbiv / peer"]
    return table(header, rows) if rows else ""


def growth(points):
    tables = []
    for name, what in SERIES.items():
        rows = []
        for point in (point for point in points if point["workload"] == name):
            peer = point["peers"].get("PyTorch")
            pair = ("libbiv", "PyTorch fused")
            cells = lambda of: [of(variant) if variant in point["seconds"] else "" for variant in pair]
            times = cells(lambda variant: duration(point["seconds"][variant]))
            memory = cells(lambda variant: f"{point['resident'][variant]:,.0f} / {point['peak'][variant]:,.0f}")
            rows.append([f"{point['at']:,}", *times, ratio(peer) if peer else "", *memory])
        if rows:
            header = [what, "libbiv, step", "PyTorch, step", "times as fast", "libbiv MiB", "PyTorch MiB"]
            tables.append(table(header, rows))
    return "\n\n".join(tables)


def scaling(results):
    """What the second core brings to a sweep. libbiv's runs on one and two follow each other at once, in "cores"."""
    sentences = []
    for workload, variant, name in [("cores", "libbiv", "libbiv"), ("sweep", "JAX vmap", "JAX (vmap, two processes)"),
                                    ("sweep", "PyTorch fused", "PyTorch (two processes)")]:
        rounds = [result["rounds"].get(variant, []) for result in results if result["workload"] == workload]
        gains = sorted(one / two for one, two in zip(*rounds)) if len(rounds) == 2 else []
        if gains:
            sentences.append(f"{name} runs {statistics.median(gains):.2f} times ({gains[0]:.2f} to {gains[-1]:.2f}) as "
                             "many experiments on two cores as on one")
    return "; ".join(sentences)


def conditions(data):
    machine, versions = data["machine"], data["versions"]
    busy = f"; **the machine was busy: load {data['load_before']:.1f}**" if data["load_before"] > 0.5 else ""
    peers = [("PyTorch", "torch"), ("JAX", "jax")]
    side = "".join(f", {name} {versions[name][package]}" for name, package in peers if name in versions)
    return (f"{data['date']}: {machine['cores']} cores of {machine['cpu']} ({', '.join(machine['simd'])}), "
            f"{machine['memory_gib']} GiB, libbiv {versions['libbiv']['version']} on libtorch "
            f"{versions['libbiv']['libtorch']}{side}; {data['minutes']} minutes{busy}.")


def tables(data):
    parts = [conditions(data)]
    if data["results"]:
        parts += [comparison(data["results"]), scaling(data["results"])]
    if data["growth"]:
        parts += ["How an MLP step grows, on one thread, against PyTorch with fused Adam. Memory: resident in "
                  "training / at the peak, which has the caller's own arrays in it.", growth(data["growth"])]
    return "\n\n".join(part for part in parts if part)


def write(data, folder):
    """results.json, and the part of README.md between the marks."""
    folder = pathlib.Path(folder)
    (folder / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    readme = (folder / "README.md").read_text()
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    (folder / "README.md").write_text(f"{before}{BEGIN}\n\n{tables(data)}\n\n{END}{after}")
    print(f"written: {folder / 'README.md'}, {folder / 'results.json'}")
