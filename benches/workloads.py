"""What is measured: the workloads, and the ways of libbiv and its peers to do each."""

from dataclasses import dataclass, field

IMAGES = 1024  # in a folder
PYTORCH = ["PyTorch eager", "PyTorch fused", "PyTorch compiled", "PyTorch compiled-whole"]
JAX = ["JAX scan", "JAX scan-4"]


def library(peer):
    """The first word of a peer's name; the last one is the variant."""
    return peer.split()[0]


@dataclass
class Case:
    """The same work by libbiv and by each variant of its peers."""

    title: str
    threads: int
    options: dict = field(default_factory=dict)
    peers: list = field(default_factory=list)


@dataclass
class Workload:
    """Cases that are measured in turns. A round is a multiple of `whole` units, for about `seconds`; 0: `whole`."""

    name: str
    command: str
    cases: list
    whole: int = 1
    seconds: float = 0.4
    rounds: int = 5
    rate: int = 0  # how many items a unit has, where items per second are shown


def on(threads):
    return f"{threads} thread{'s' if threads > 1 else ''}"


def both(title, peers, **options):
    """The same work on one thread and on two."""
    return [Case(f"{title}, {on(n)}", n, options, peers) for n in (1, 2)]


def images(title, model, batch, precision, threads, folder):
    """A network for images, alone: its workers are large."""
    peers = {"f32": ["PyTorch eager", "PyTorch eager-cl", "PyTorch compiled"],
             "bf16": ["PyTorch eager-cl", "PyTorch compiled-cl"]}[precision]
    options = {"model": model, "precision": precision, "batch": batch, "folder": folder}
    case = Case(f"{title} step, {batch} images, {precision}, {on(threads)}", threads, options, peers)
    return Workload(title, "images", [case], seconds=0, rounds=3)


def sweeps(peers):
    """The same runs on one core and on two."""
    cores = {1: "1 core", 2: "2 cores"}
    return [Case(f"sweep of 16 small experiments, {name}", 1, {"jobs": n}, peers) for n, name in cores.items()]


def workloads(place):
    """All of them; `place` has the data files."""
    bike, table, faces, photos = (
        f"{place}/{name}" for name in ("bike.csv", "rows.csv", f"faces-{IMAGES}", f"photos-{IMAGES}"))
    fast = ["PyTorch fused", "PyTorch compiled-whole", *JAX]
    return [
        Workload("mlp", "step", both("MLP step, 256 rows", [*PYTORCH, "JAX step", *JAX]), whole=27),
        Workload("epoch", "epoch", both("bike epoch and evaluation", fast)),
        Workload("experiment", "experiment", both("bike experiment, 100 epochs", fast, csv=bike), seconds=0, rounds=3),
        Workload("every-step", "experiment", both("bike, evaluated at each step", fast, csv=bike, evaluate="steps"),
                 seconds=0, rounds=3),
        Workload("published", "step_and_test", both("bike step and evaluation", ["PyTorch published"])),
        *(images("CNN", "vanilla_cnn", 64, precision, n, faces) for n in (1, 2) for precision in ("f32", "bf16")),
        *(images("ResNet-18", "resnet", 32, precision, 2, faces) for precision in ("f32", "bf16")),
        Workload("predict", "predict", both("prediction, 100,000 rows", ["PyTorch eager", "PyTorch compiled"],
                                            rows=100_000), rate=100_000),
        Workload("predict-one", "predict", [Case("prediction, one row", 1, {"rows": 1},
                                                ["PyTorch eager", "PyTorch compiled"])]),
        Workload("csv", "read_csv", [Case("CSV, rows of 20 numbers", 1, {"csv": table}, ["numpy", "pandas"])],
                 rate=100_000),
        Workload("jpeg", "read_images", both("JPEG images, 4:4:4", ["Pillow"], folder=faces), seconds=1.5, rate=IMAGES),
        Workload("photos", "read_images", both("JPEG images, 4:2:0", ["Pillow"], folder=photos), seconds=1.5,
                 rate=IMAGES),
        Workload("sweep", "sweep", sweeps(["PyTorch fused", "JAX scan", "JAX vmap"]), rate=16),
        Workload("cores", "sweep", sweeps([]), rounds=15),
        Workload("call", "call_nothing", [Case("call of biv_abi_version()", 1)]),
        Workload("call-handle", "call_handle", [Case("call of biv_trainer_get_progress()", 1)]),
    ]


def growth():
    """How the cost of a step grows: each point by itself, for they differ in memory."""
    series = {"batch": [32, 128, 512, 2048, 8192, 16384], "width": [1, 2, 4, 8, 16, 32],
              "rows": [10_000, 100_000, 1_000_000, 10_000_000]}
    for name, points in series.items():
        for at in points:
            options = {"rows": 32768, name: at} if name == "batch" else {name: at}
            yield at, Workload(name, "step", [Case(f"{name} {at:,}", 1, options, ["PyTorch fused"])], rounds=3)
