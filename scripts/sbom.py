#!/usr/bin/env python3
"""Says what a tarball of libbiv is made of.

    scripts/sbom.py TORCH_LIB FOLDER

writes FOLDER/sbom.cdx.json, a CycloneDX list of libtorch's files and of the crates that are linked, and
FOLDER/THIRD-PARTY-LICENSES.txt, the licences of both.
"""

import json
import pathlib
import platform
import re
import subprocess
import sys
import tomllib

import libtorch

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = platform.machine() + "-unknown-linux-gnu"
LICENSE_FILE = re.compile(r"(licen[cs]e|copying|unlicense|notice|copyright)", re.IGNORECASE)
SOURCES = {".c", ".h", ".py", ".rs"}


def cargo(*arguments):
    command = ["cargo", *arguments, "--locked"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def crates():
    """What Cargo knows of each crate that is linked, with its checksum and the texts of its licences."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in lock}
    tree = cargo("tree", "--edges", "normal", "--target", TARGET, "--prefix", "none", "--no-dedupe")
    linked = {tuple(line.replace(" v", " ").split()[:2]) for line in tree.splitlines()}
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", TARGET))
    # Those of the workspace have no source.
    packages = [package for package in metadata["packages"] if package["source"]]
    for package in packages:
        package["texts"] = texts(pathlib.Path(package["manifest_path"]).parent)
    for package in packages:
        key = package["name"], package["version"]
        if key in linked:
            # A crate that is published without its text has a sibling, of the same repository, with it.
            siblings = [other["texts"] for other in packages if other["repository"] == package["repository"]]
            found = package["texts"] or sum(siblings, [])
            if not found:
                sys.exit(f"sbom: {' '.join(key)} comes without the text of its licence")
            expression = package["license"].replace("/", " OR ")
            yield {**package, "license": expression, "checksum": checksums[key], "texts": found}


def texts(folder):
    """The licences in a folder, and in those in it: of C code that a crate brings along, or collected in one."""
    def tells(path):
        named = any(LICENSE_FILE.match(part) for part in path.relative_to(folder).parts)
        return named and path.is_file() and path.suffix not in SOURCES

    found = sorted(path for path in [*folder.glob("*"), *folder.glob("*/*")] if tells(path))
    return [path.read_text(errors="replace").strip() for path in found]


def component(kind, name, digest=None, license=None, **fields):
    hashes = {"hashes": [{"alg": "SHA-256", "content": digest}]} if digest else {}
    licenses = {"licenses": [license]} if license else {}
    return {"type": kind, "name": name, **hashes, **licenses, **fields}


def files(folder, pattern, place):
    """The shared libraries in `folder`, which is `place` in the tarball, as parts of a component."""
    gpl = {"expression": "GPL-3.0-or-later WITH GCC-exception-3.1"}
    return [component("file", f"{place}/{path.relative_to(folder)}", libtorch.sha256(path),
                      gpl if path.name.startswith("libgomp") else None) for path in sorted(folder.glob(pattern))]


def bill(crates, lib):
    home, version = lib.parent.parent, tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    # What scripts/libtorch.py unpacked comes from the wheel that it verified; of others there are the files' digests.
    wheel = libtorch.SHA256[platform.machine()]["torch"] if (home / "complete").is_file() else None
    parts = [component("library", "libtorch", wheel, {"expression": "BSD-3-Clause"}, scope="required",
                       version=libtorch.installed_version(lib.parent), purl=f"pkg:pypi/torch@{libtorch.VERSION}",
                       components=files(lib, "*.so*", "torch/lib"))]
    if nvidia := files(home / "nvidia", "*/lib/*.so*", "nvidia"):
        agreement = {"license": {"name": "NVIDIA Software License Agreement"}}
        parts.append(component("library", "NVIDIA's CUDA libraries that libtorch loads", None, agreement,
                               scope="required", components=nvidia))
    parts += [component("library", crate["name"], crate["checksum"], {"expression": crate["license"]},
                        scope="required", version=crate["version"],
                        purl=f"pkg:cargo/{crate['name']}@{crate['version']}") for crate in crates]
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
            "metadata": {"component": component("library", "biv", version=version)}, "components": parts}


def licenses(crates, lib):
    """Each text once, under the names of all that come under it."""
    named = [(f"{crate['name']} {crate['version']} ({crate['license']})", crate["texts"]) for crate in crates]
    for folder in sorted(lib.parent.parent.glob("*.dist-info")):
        named.append((folder.name.removesuffix(".dist-info").replace("-", " "), texts(folder)))
    sections = {}
    for name, found in named:
        for text in found:
            sections.setdefault(" ".join(text.split()), (text, {}))[1][name] = None
    rule = "\n\n" + "=" * 80 + "\n\n"
    head = "What libbiv is linked with or comes with, and the licences of each."
    return rule.join([head, *("\n".join(names) + "\n\n" + text for text, names in sections.values())]) + "\n"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    lib, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    linked = sorted(crates(), key=lambda crate: (crate["name"], crate["version"]))
    (folder / "sbom.cdx.json").write_text(json.dumps(bill(linked, lib), indent=1) + "\n")
    (folder / "THIRD-PARTY-LICENSES.txt").write_text(licenses(linked, lib))
    if not list(lib.parent.parent.glob("torch-*.dist-info")):
        print(f"sbom: SKIPPED the texts of libtorch's licences: they are not beside {lib.parent}", file=sys.stderr)
    print(f"sbom: {len(linked)} crates and libtorch")


if __name__ == "__main__":
    main()
