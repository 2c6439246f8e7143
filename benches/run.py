#!/usr/bin/env python3
"""Measures libbiv, PyTorch and JAX in turns on the same work, and writes the tables of benches/README.md.

Each way of doing a case is a worker process (build/bench, pytorch.py, jax_peer.py) that does as many
units of work as it is told. A round lets all workers of a workload do theirs, one
after the other; ratios are taken within a round, and the median of the rounds is shown.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace

import report
from workloads import IMAGES, JAX, PYTORCH, Case, Workload, growth, library, workloads

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLACE = ROOT / "build" / "bench-data"
PATIENCE = 60  # seconds of rounds, after which no more are begun
AGREEMENT = 1e-3  # of losses
SLOW = ["every-step", "CNN", "ResNet-18"]
SIMD = ["avx2", "avx512f", "avx512_bf16", "amx_bf16"]


class Skipped(Exception):
    """A worker that cannot do its work here."""


class Worker:
    """A process that measures one way of doing one case."""

    def __init__(self, command, threads, jobs):
        # libtorch has so many threads in each job, and what takes as many as there are processors has these.
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        processors = sorted(os.sched_getaffinity(0))[: threads * jobs]
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, env=environment,
                                        preexec_fn=lambda: os.sched_setaffinity(0, processors))
        self.about = self.read()["ready"]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            lines = self.errors.read().strip().splitlines()
            raise Skipped(lines[-1] if lines else "it ended without a word")
        answer = json.loads(line)
        if "skip" in answer:
            raise Skipped(answer["skip"])
        return answer

    def work(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        """The end of its input is the end of a worker."""
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def warm_up(worker, workload):
    """Lets everything be compiled and cached, and gives the number of units of a round."""
    worker.work(workload.whole)
    if not workload.seconds:
        return workload.whole
    turn = worker.work(workload.whole)["seconds"]
    return max(1, round(workload.seconds / turn)) * workload.whole


class Bench:
    """The commands of libbiv and its peers."""

    def __init__(self, python):
        self.python, self.versions = python, {}

    def worker(self, workload, case, variant):
        options = dict(case.options, threads=case.threads)
        if variant == "libbiv":
            program = [str(ROOT / "build" / "bench")]
        else:
            script = "jax_peer.py" if library(variant) == "JAX" else "pytorch.py"
            program = [self.python, str(ROOT / "benches" / script)]
            options["variant"] = variant.split()[-1]
        worker = Worker([*program, workload.command, *(f"{key}={value}" for key, value in options.items())],
                        case.threads, options.get("jobs", 1))
        self.versions[library(variant)] = worker.about
        return worker

    def measure(self, workload):
        """Seconds per unit, of each variant of each case in each round; a variant may be skipped, libbiv may not."""
        workers, counts, skipped = {}, {}, {}
        try:
            for index, case in enumerate(workload.cases):
                for variant in ["libbiv", *case.peers]:
                    try:
                        worker = self.worker(workload, case, variant)
                        workers[index, variant] = worker
                        counts[index, variant] = warm_up(worker, workload)
                    except (Skipped, OSError) as reason:
                        if variant == "libbiv":
                            sys.exit(f"bench: {case.title}: {reason}")
                        workers.pop((index, variant), None)
                        skipped[index, variant] = str(reason)
                        print(f"  SKIPPED {case.title}, {variant}: {reason}", flush=True)
            seconds, last, start = {key: [] for key in workers}, {}, time.monotonic()
            for done in range(workload.rounds):
                if time.monotonic() - start > PATIENCE:
                    print(f"  {workload.name}: only {done} of {workload.rounds} rounds, they take long", flush=True)
                    break
                for key, worker in workers.items():
                    last[key] = worker.work(counts[key])
                    seconds[key].append(last[key]["seconds"] / counts[key])
        finally:
            for worker in workers.values():
                worker.close()
        return [self.result(workload, case, {variant: seconds[i, variant] for i, variant in workers if i == index},
                            {variant: last[i, variant] for i, variant in workers if i == index},
                            {variant: why for (i, variant), why in skipped.items() if i == index})
                for index, case in enumerate(workload.cases)]

    @staticmethod
    def result(workload, case, seconds, last, skipped):
        median = {variant: statistics.median(times) for variant, times in seconds.items()}
        result = {"workload": workload.name, "title": case.title, "threads": case.threads, "rate": workload.rate,
                  "seconds": median, "rounds": seconds,
                  "peak": {variant: answer["peak"] for variant, answer in last.items()},
                  "resident": {variant: answer["resident"] for variant, answer in last.items()},
                  "value": {variant: answer["value"] for variant, answer in last.items()}, "skipped": skipped,
                  "peers": {}}
        for peer in dict.fromkeys(library(variant) for variant in median if variant != "libbiv"):
            best = min((variant for variant in median if library(variant) == peer), key=median.get)
            ratios = sorted(theirs / ours for theirs, ours in zip(seconds[best], seconds["libbiv"]))
            result["peers"][peer] = {"best": best, "ratio": statistics.median(ratios),
                                     "ratios": [ratios[0], ratios[-1]]}
        return result


def machine():
    cpu = dict(line.split(":", 1) for line in pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines())
    cpu = {key.strip(): value.strip() for key, value in cpu.items()}
    flags = cpu.get("flags", "").split()
    return {"cpu": cpu.get("model name", platform.machine()), "cores": len(os.sched_getaffinity(0)),
            "simd": [name for name in SIMD if name in flags],
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)}


def write_csv(path, rows):
    """19 features, and a label that depends on them."""
    if path.exists():
        return
    draw, lines = random.Random(rows), [",".join([f"x{j}" for j in range(19)] + ["y"])]
    for _ in range(rows):
        x = [draw.random() for _ in range(19)]
        y = 10 * math.sin(math.pi * x[0] * x[1]) + 20 * (x[2] - 0.5) ** 2 + 10 * x[3] + 5 * x[4]
        lines.append(",".join(f"{value:.6f}" for value in x + [y]))
    path.write_text("\n".join(lines) + "\n")


# As most photos are written: with colours of half the resolution.
WRITE_PHOTOS = """
import pathlib, sys
from PIL import Image
for face in pathlib.Path(sys.argv[1]).glob("*.jpg"):
    Image.open(face).save(pathlib.Path(sys.argv[2]) / face.name, quality=75, subsampling="4:2:0")
"""


def write_images(faces, photos, python):
    """Drawn faces as `biv faces` writes them, and their copies as photos, which take Pillow."""
    if not faces.exists():
        program = ROOT / "build" / "install" / "bin" / "biv"
        subprocess.run([program, "faces", faces, "--count", str(IMAGES)], check=True, stdout=subprocess.DEVNULL)
    if not photos.exists():
        with tempfile.TemporaryDirectory(dir=PLACE) as folder:
            if subprocess.run([python, "-c", WRITE_PHOTOS, faces, folder], stderr=subprocess.DEVNULL).returncode == 0:
                shutil.copytree(folder, photos)


def prepare(python):
    PLACE.mkdir(parents=True, exist_ok=True)
    write_csv(PLACE / "bike.csv", 10_379)
    write_csv(PLACE / "rows.csv", 100_000)
    write_images(PLACE / f"faces-{IMAGES}", PLACE / f"photos-{IMAGES}", python)


def check(bench):
    """Libbiv and its peers from the same weights on the same data: the losses of 100 steps must agree.

    libbiv computes Adam's 1 - beta2 in f32, which is 5e-5 more than the 0.001 of the others; all else agrees to 1e-6.
    """
    failed, counts = False, [1] * 19 + [27] * 3  # step by step, then in whole epochs, as they are timed
    for what, command, options in [("the caller's mini-batches", "given", {}),
                                   ("the trainer's own, of all rows", "step", {"rows": 256})]:
        with tempfile.TemporaryDirectory() as folder:
            workload = Workload("check", command, [])

            def losses(variant, key):
                worker = bench.worker(workload, Case("", 1, options | {key: folder}), variant)
                try:
                    return [worker.work(count)["value"] for count in counts]
                finally:
                    worker.close()

            ours = losses("libbiv", "export")
            for variant in [*PYTORCH, *JAX]:
                try:
                    theirs = losses(variant, "import")
                except Skipped as reason:
                    print(f"check: SKIPPED {variant}: {reason}", flush=True)
                    continue
                worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))
                failed |= not worst < AGREEMENT
                print(f"check: {what}: loss {ours[0]:.6f} to {ours[-1]:.6f}, {variant} "
                      f"{theirs[0]:.6f} to {theirs[-1]:.6f}: {worst:.1e} apart", flush=True)
    if failed:
        sys.exit(f"check: the losses differ by more than {AGREEMENT}: they do not do the same work")


def quick(workload):
    """What takes little time, on one thread, without torch.compile."""
    cases = [replace(case, peers=[peer for peer in case.peers if "compiled" not in peer])
             for case in workload.cases if case.threads == 1]
    return replace(workload, cases=cases, rounds=2, seconds=min(workload.seconds, 0.2))


def calm():
    """The machine's load, after that of the build has gone: two minutes at most."""
    for _ in range(24):
        if os.getloadavg()[0] <= 0.5:
            break
        time.sleep(5)
    return os.getloadavg()[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="a Python that has torch and jax")
    parser.add_argument("--quick", action="store_true", help="a minute: one thread, no torch.compile; writes nothing")
    parser.add_argument("--only", action="append", help="mlp, epoch, CNN, sweep, batch, rows, ...; writes nothing")
    parser.add_argument("--check", action="store_true", help="only compares the losses")
    parser.add_argument("--no-write", action="store_true", help="leaves the files in benches/ as they are")
    arguments = parser.parse_args()
    bench = Bench(arguments.python)
    if arguments.check:
        return check(bench)

    load, start = os.getloadavg()[0] if arguments.only or arguments.quick else calm(), time.time()
    if load > 0.5:
        print(f"The machine is busy (load {load:.1f}): the figures are of little worth")
    prepare(bench.python)
    todo = [(None, workload) for workload in workloads(PLACE)] + list(growth())
    if arguments.only:
        todo = [(at, workload) for at, workload in todo if workload.name in arguments.only]
    elif arguments.quick:
        todo = [(at, quick(workload)) for at, workload in todo if at is None and workload.name not in SLOW]
    results, points = [], []
    for at, workload in todo:
        if workload.name == "photos" and not (PLACE / f"photos-{IMAGES}").exists():
            print("photos: SKIPPED: there is no Pillow to write them")
            continue
        for result in bench.measure(workload):
            (results if at is None else points).append(result | {"at": at})
            print(report.line(result), flush=True)
    data = {"machine": machine(), "versions": bench.versions, "load_before": load, "date": time.strftime("%Y-%m-%d"),
            "minutes": round((time.time() - start) / 60, 1), "results": results, "growth": points}
    print(f"\n{report.tables(data)}\n{data['minutes']} minutes")
    if not (arguments.no_write or arguments.only or arguments.quick):
        report.write(data, ROOT / "benches")


if __name__ == "__main__":
    main()
