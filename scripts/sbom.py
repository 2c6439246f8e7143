#!/usr/bin/env python3
"""Says what a tarball of libbiv is made of.

    scripts/sbom.py TORCH_LIB FOLDER

writes FOLDER/sbom.cdx.json, a CycloneDX list of the crates of Cargo.lock and of libtorch, with versions and
SHA-256, and FOLDER/THIRD-PARTY-LICENSES.txt, the licences of all that is linked in or beside the library.
"""

import json
import pathlib
import re
import subprocess
import sys

import libtorch

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "x86_64-unknown-linux-gnu"
LICENSE_FILE = re.compile(r"(licen[cs]e|copying|unlicense|notice|copyright)", re.IGNORECASE)
SOURCES = {".c", ".h", ".py", ".rs"}


def cargo(*arguments):
    command = ["cargo", *arguments, "--locked", "--manifest-path", str(ROOT / "Cargo.toml")]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def resolved(edges):
    """The names and versions of the crates that these kinds of dependencies lead to."""
    tree = cargo("tree", "--edges", edges, "--target", TARGET, "--prefix", "none", "--no-dedupe")
    return {(name, version[1:]) for name, version, *_ in map(str.split, tree.splitlines())}


def crates():
    """Every crate that a build compiles, in order; `linked` ones end up in the library or the program."""
    lock = (ROOT / "Cargo.lock").read_text()
    entry = re.compile(r'name = "(.+)"\nversion = "(.+)"\nsource = .+\nchecksum = "(.+)"')
    checksums = {(name, version): checksum for name, version, checksum in entry.findall(lock)}
    linked, built = resolved("normal"), resolved("normal,build")
    packages = json.loads(cargo("metadata", "--format-version", "1"))["packages"]
    for package in sorted(packages, key=lambda package: (package["name"], package["version"])):
        key = package["name"], package["version"]
        # The workspace's own crates have no source, and are no third party's.
        if key in built and package["source"]:
            yield {
                "name": key[0],
                "version": key[1],
                "license": package["license"].replace("/", " OR "),
                "sha256": checksums[key],
                "linked": key in linked,
                "repository": package["repository"],
                "folder": pathlib.Path(package["manifest_path"]).parent,
            }


def hashes(digest):
    return [{"alg": "SHA-256", "content": digest}]


def files(folder, pattern, place):
    """The shared libraries in `folder`, which is `place` in the tarball, as parts of a component."""
    for path in sorted(folder.glob(pattern)):
        name = f"{place}/{path.relative_to(folder)}"
        part = {"type": "file", "name": name, "hashes": hashes(libtorch.sha256(path))}
        if path.name.startswith("libgomp"):
            part["licenses"] = [{"expression": "GPL-3.0-or-later WITH GCC-exception-3.1"}]
        yield part


def bill(crates, lib):
    version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:cargo/{crate['name']}@{crate['version']}",
            "name": crate["name"],
            "version": crate["version"],
            # Nothing of what only runs during the build is in the tarball.
            "scope": "required" if crate["linked"] else "excluded",
            "hashes": hashes(crate["sha256"]),
            "licenses": [{"expression": crate["license"]}],
            "purl": f"pkg:cargo/{crate['name']}@{crate['version']}",
        }
        for crate in crates
    ]
    home = lib.parent.parent
    torch = {
        "type": "library",
        "bom-ref": f"pkg:pypi/torch@{libtorch.VERSION}",
        "name": "libtorch",
        "version": libtorch.installed_version(lib.parent),
        "scope": "required",
        "licenses": [{"expression": "BSD-3-Clause"}],
        "purl": f"pkg:pypi/torch@{libtorch.VERSION}",
        "components": list(files(lib, "*.so*", "torch/lib")),
    }
    # What scripts/libtorch.py unpacked comes from the wheel that it verified; of others there are the files' digests.
    if (home / "complete").is_file():
        torch["hashes"] = hashes(libtorch.SHA256["torch"])
    nvidia = {
        "type": "library",
        "bom-ref": "nvidia",
        "name": "NVIDIA's CUDA libraries that libtorch loads",
        "scope": "required",
        "licenses": [{"license": {"name": "NVIDIA Software License Agreement"}}],
        "components": list(files(home / "nvidia", "*/lib/*.so*", "nvidia")),
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "library", "bom-ref": "biv", "name": "biv", "version": version}},
        "components": [torch, *([nvidia] if nvidia["components"] else []), *components],
    }


def texts(folder):
    """The licences in a folder, and in those in it: of C code that a crate brings along, or collected in one."""
    def tells(path):
        named = any(LICENSE_FILE.match(part) for part in path.relative_to(folder).parts)
        return named and path.is_file() and path.suffix not in SOURCES

    found = sorted(path for path in [*folder.glob("*"), *folder.glob("*/*")] if tells(path))
    return [path.read_text(errors="replace").strip() for path in found]


def licenses(crates, lib):
    """Each text once, under the names of all that come under it."""
    of_repository = {}
    for crate in crates:
        of_repository.setdefault(crate["repository"], []).extend(texts(crate["folder"]))
    sections = {}
    for crate in filter(lambda crate: crate["linked"], crates):
        # A crate that is published without its text has a sibling, of the same repository, with it.
        found = texts(crate["folder"]) or of_repository[crate["repository"]]
        if not found:
            sys.exit(f"sbom: {crate['name']} {crate['version']} comes without the text of its licence")
        for text in found:
            names = sections.setdefault(" ".join(text.split()), (text, {}))[1]
            names[f"{crate['name']} {crate['version']} ({crate['license']})"] = None
    for folder in sorted(lib.parent.parent.glob("*.dist-info")):
        for text in texts(folder):
            name = folder.name.removesuffix(".dist-info").replace("-", " ")
            sections.setdefault(" ".join(text.split()), (text, {}))[1][name] = None
    rule = "\n\n" + "=" * 80 + "\n\n"
    head = "What libbiv is linked with or comes with, and the licences of each."
    return rule.join([head, *("\n".join(names) + "\n\n" + text for text, names in sections.values())]) + "\n"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    lib, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    found = list(crates())
    document = json.dumps(bill(found, lib), indent=1) + "\n"
    (folder / "sbom.cdx.json").write_text(document)
    (folder / "THIRD-PARTY-LICENSES.txt").write_text(licenses(found, lib))
    if not list(lib.parent.parent.glob("torch-*.dist-info")):
        print(f"sbom: SKIPPED the texts of libtorch's licences: they are not beside {lib.parent}", file=sys.stderr)
    print(f"sbom: {len(found)} crates, {sum(crate['linked'] for crate in found)} of them linked, and libtorch")


if __name__ == "__main__":
    main()
