"""What is measured: the workloads, and the ways of both sides to do each."""

from dataclasses import dataclass, field

COMPILED = ["eager", "fused", "compiled", "compiled-whole"]


@dataclass
class Case:
    """One line of the table: the same work by libbiv and by each of PyTorch's variants."""

    title: str
    threads: int
    options: dict = field(default_factory=dict)
    ours: dict = field(default_factory=dict)
    peers: list = field(default_factory=list)


@dataclass
class Workload:
    """Cases that are measured in turns. A unit is what `count` counts; it holds `items` of what is named `item`."""

    name: str
    command: str
    cases: list
    item: str
    rate: bool = False
    items: int = 1
    whole: int = 1
    seconds: float = 0.4
    rounds: int = 5


def both(title, peers, **options):
    return [Case(f"{title}, {n} thread{'s' * (n > 1)}", n, options, peers=peers) for n in (1, 2)]


def workloads(place):
    """All of them; `place` has the data files."""
    bike, table, faces = f"{place}/bike.csv", f"{place}/rows.csv", f"{place}/faces"
    images = lambda title, model, precision, batch, threads: Case(
        f"{title}, {precision}, {threads} thread{'s' * (threads > 1)}", threads,
        {"model": model, "precision": precision, "batch": batch, "folder": faces}, peers=[
            "eager", "eager-cl", "compiled"] if precision == "f32" else ["eager-cl", "compiled-cl"])
    return [
        Workload("mlp", "step", both("MLP step, 256 rows", COMPILED), "step", whole=27),
        Workload("epoch", "epoch", both("bike epoch and evaluation", COMPILED[1:]), "epoch"),
        Workload("experiment", "experiment", both("bike experiment, 100 epochs", COMPILED[1:], csv=bike), "experiment",
                 rounds=3),
        Workload("every-step", "experiment", both("bike experiment, evaluated at each step", COMPILED[1:], csv=bike,
                                                   evaluate="steps"), "experiment", rounds=3),
        Workload("cnn", "images", [images("CNN step, 64 images", "vanilla_cnn", precision, 64, threads)
                                   for threads in (1, 2) for precision in ("f32", "bf16")], "step", rounds=3),
        Workload("resnet18", "images", [images("ResNet-18 step, 32 images", "resnet", precision, 32, 2)
                                        for precision in ("f32", "bf16")], "step", rounds=3),
        Workload("predict", "predict", both("prediction, 100,000 rows", ["eager", "compiled"], rows=100_000), "row",
                 rate=True, items=100_000),
        Workload("predict-one", "predict", [Case("prediction, one row", 1, {"rows": 1}, peers=["eager", "compiled"])],
                 "call"),
        Workload("csv", "read_csv", [Case("CSV, 100,000 rows of 20 numbers", 1, {"csv": table},
                                          peers=["numpy", "pandas"])], "row", rate=True, items=100_000, rounds=3),
        Workload("jpeg", "read_images", [Case(f"JPEG, 200 x 200, {n} thread{'s' * (n > 1)}", n, {"folder": faces},
                                              peers=["Pillow"]) for n in (1, 2)], "image", rate=True, items=256,
                 rounds=3),
        Workload("sweep", "sweep", [Case(f"sweep of 16 small experiments, {n} core{'s' * (n > 1)}", 1, {"jobs": n},
                                         peers=["fused"]) for n in (1, 2)], "experiment", rate=True, items=16),
        Workload("call", "call_nothing", [Case("call of biv_abi_version()", 1)], "call", seconds=0.1),
        Workload("call-handle", "call_handle", [Case("call of biv_trainer_get_progress()", 1)], "call", seconds=0.1),
    ]


def growth():
    """How the cost of a step grows: each point by itself, for they differ in memory."""
    series = {"batch": [32, 128, 512, 2048, 8192, 16384], "width": [1, 2, 4, 8, 16, 32],
              "rows": [10_000, 100_000, 1_000_000, 10_000_000]}
    options = {"batch": lambda n: {"batch": n, "rows": 32768}, "width": lambda n: {"width": n},
               "rows": lambda n: {"rows": n}}
    return {name: [(n, Workload(f"{name} {n}", "step", [Case(f"{name} {n:,}", 1, options[name](n), peers=["fused"])],
                                "step", rounds=3)) for n in points] for name, points in series.items()}
