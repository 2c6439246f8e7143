"""The tables and the chart of a measurement."""

import json
import math
import pathlib
import statistics
from xml.sax.saxutils import escape

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


def ratio(result):
    low, high = result["ratios"]
    return f"{result['ratio']:.2f} ({low:.2f} to {high:.2f})"


def line(result):
    """One result on the terminal."""
    parts = [f"{variant} {figure(result, variant)}" for variant in result["seconds"]]
    return f"{result['title']}: " + ", ".join(parts) + (f"; x {ratio(result)}" if "best" in result else "")


def table(header, rows):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows])


def comparison(results):
    rows = []
    for result in (result for result in results if result["workload"] != "cores"):
        best = result.get("best")
        rest = [variant for variant in result["seconds"] if variant not in ("libbiv", best)]
        others = [f"{variant} {figure(result, variant)}" for variant in rest]
        others += [f"{variant} skipped" for variant in result["skipped"]]
        memory = [f"{result['peak'][variant]:,.0f}" for variant in ("libbiv", best) if variant]
        rows.append([result["title"], figure(result, "libbiv"), f"{figure(result, best)} {best}" if best else "",
                     f"**{ratio(result)}**" if best else "", ", ".join(others), " / ".join(memory)])
    header = ["work", "libbiv", "PyTorch at its best", "times as fast", "PyTorch otherwise",
              "peak MiB, libbiv / PyTorch"]
    return table(header, rows) if rows else ""


def growth(points):
    tables = []
    for name, what in SERIES.items():
        rows = []
        for point in (point for point in points if point["workload"] == name):
            peer = point.get("best")
            cells = lambda of: [of(variant) if variant in point["seconds"] else "" for variant in ("libbiv", peer)]
            times = cells(lambda variant: duration(point["seconds"][variant]))
            memory = cells(lambda variant: f"{point['resident'][variant]:,.0f} / {point['peak'][variant]:,.0f}")
            rows.append([f"{point['at']:,}", *times, ratio(point) if peer else "", *memory])
        if rows:
            header = [what, "libbiv, step", "PyTorch, step", "times as fast", "libbiv MiB", "PyTorch MiB"]
            tables.append(table(header, rows))
    return "\n\n".join(tables)


def scaling(results):
    """What the second core brings to a sweep. libbiv's runs on one and two follow each other at once, in "cores"."""
    sentences = []
    for workload, variant, name in [("cores", "libbiv", "libbiv"), ("sweep", "fused", "PyTorch (two processes)")]:
        rounds = [result["rounds"].get(variant, []) for result in results if result["workload"] == workload]
        gains = sorted(one / two for one, two in zip(*rounds)) if len(rounds) == 2 else []
        if gains:
            sentences.append(f"{name} runs {statistics.median(gains):.2f} times ({gains[0]:.2f} to {gains[-1]:.2f}) as "
                             "many experiments on two cores as on one")
    return "; ".join(sentences)


def conditions(data):
    machine, versions = data["machine"], data["versions"]
    busy = f"; **the machine was busy: load {data['load_before']:.1f}**" if data["load_before"] > 0.5 else ""
    peer = versions.get("PyTorch")
    side = f", PyTorch {peer['torch']} in Python {peer['python']}" if peer else ""
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


STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 } .small { font-size: 12px; fill: #57606a }
.faster { fill: #1f883d } .slower { fill: #cf222e } .other { stroke: #d0d7de } .one { stroke: #57606a }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .faster { fill: #3fb950 } .slower { fill: #f85149 }
  .other { stroke: #3d444d } .one { stroke: #9198a1 }
}"""


def chart(results):
    """Bars from 1 to the ratio, on a logarithmic axis."""
    results = [result for result in results if "best" in result]
    left, right, top, row = 330, 720, 44, 24
    logs = [math.log2(result["ratio"]) for result in results]
    low, high = min(-1, math.floor(min(logs))), max(1, math.ceil(max(logs)))
    x = lambda log: left + (log - low) / (high - low) * (right - left)
    bottom = top + row * len(results)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 {bottom + 30}" role="img">',
           f"<style>{STYLE}</style>", "<title>libbiv against PyTorch</title>",
           '<text class="title" x="12" y="22">How many times as fast as the best of PyTorch</text>']
    for tick in range(low, high + 1):
        label = f"{2**tick}" if tick >= 0 else f"1/{2**-tick}"
        kind = "one" if tick == 0 else "other"
        svg.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}"/>')
        svg.append(f'<text class="small" x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>')
    for index, (result, log) in enumerate(zip(results, logs)):
        y = top + row * index
        start, end = sorted((x(0), x(log)))
        svg.append(f'<text x="{left - 10}" y="{y + 16}" text-anchor="end">{escape(result["title"])}</text>')
        svg.append(f'<rect class="{"faster" if log >= 0 else "slower"}" x="{start:.1f}" y="{y + 4}" '
                   f'width="{max(1, end - start):.1f}" height="{row - 8}" rx="2"/>')
        svg.append(f'<text x="{end + 6:.1f}" y="{y + 16}">{result["ratio"]:.2f}</text>')
    return "\n".join([*svg, "</svg>", ""])


def write(data, folder):
    """results.json, the chart, and the part of README.md between the marks."""
    folder = pathlib.Path(folder)
    (folder / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    (folder / "speed.svg").write_text(chart(data["results"]))
    readme = (folder / "README.md").read_text()
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    picture = "![How many times as fast as PyTorch](speed.svg)"
    (folder / "README.md").write_text(f"{before}{BEGIN}\n\n{picture}\n\n{tables(data)}\n\n{END}{after}")
    print(f"written: {', '.join(str(folder / name) for name in ('README.md', 'results.json', 'speed.svg'))}")
