#!/usr/bin/env bash
# The lines of docs/linking.md, run as they stand in a home folder of their own. Code in another language than the shell's
# goes to the file that the commands after it read. A block whose tool is not installed is skipped, saying so.
set -euo pipefail
cd "$(dirname "$0")/.."
unset LD_LIBRARY_PATH PKG_CONFIG_PATH

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/home" "$folder/work"
cp -r examples tests/clients/client.f90 "$folder/work"
python3 - "$PWD" "$folder/script" <<'PY'
import pathlib
import re
import shlex
import shutil
import sys

root, script = sys.argv[1:]
files = {"c": "program.c", "cmake": "CMakeLists.txt", "meson": "meson.build", "go": "main.go"}
blocks = re.findall(r"^```(\w+)\n(.*?)^```$", pathlib.Path("docs/linking.md").read_text(), re.S | re.M)
lines = ["set -euo pipefail"]
for name, text in blocks:
    if name in files:
        (pathlib.Path(script).parent / "work" / files[name]).write_text(text)
    elif name == "sh":
        tools = re.findall(r"^([a-z-]+) |\$\((pkg-config) ", text, re.M)
        missing = [tool for pair in tools for tool in pair if tool and tool != "export" and not shutil.which(tool)]
        if missing:
            print(f"linking: SKIPPED {' '.join(shlex.split(text)[:2])}: {missing[0]} is not installed")
            continue
        for line in text.splitlines():
            lines += [f"echo {shlex.quote('$ ' + line)}", f"(cd {root}; {line})" if line.startswith("make ") else line]
pathlib.Path(script).write_text("\n".join(lines) + "\n")
PY

# Cargo, Rust and Go keep what they have in the user's real home.
cargo=${CARGO_HOME:-$HOME/.cargo} rustup=${RUSTUP_HOME:-$HOME/.rustup} go=${GOCACHE:-$HOME/.cache/go-build}
(cd "$folder/work" && HOME=$folder/home CARGO_HOME=$cargo RUSTUP_HOME=$rustup GOCACHE=$go bash "$folder/script") \
  > "$folder/log" 2>&1 || {
  cat "$folder/log" >&2
  echo "linking: the last command above failed" >&2
  exit 1
}
ran=$(grep -c '^\$ ' "$folder/log")
. tests/clients/description.sh
own=$(grep -cE "$own_blas" "$folder/log" || true)
grep -q 'find library=libtorch_cpu.so' "$folder/log"
[ "$own" = "$(grep -cE '^\$ (\./|.*/bin/)program$' "$folder/log")" ] || {
  cat "$folder/log" >&2
  echo "linking: a program has not run as it should" >&2
  exit 1
}
# In a host that has another libtorch the page's line shows it: libbiv's own is not looked for.
other=$folder/libtorch_cpu.so prefix=$folder/home/.local
cc "$folder/work/program.c" -I"$prefix/include" -L"$prefix/lib" -Wl,-rpath,"$prefix/lib" -lbiv -o "$folder/host"
cc -shared -Wl,-soname,libtorch_cpu.so -x c /dev/null -o "$other"
LD_PRELOAD=$other LD_DEBUG=libs "$folder/host" > "$folder/log" 2>&1 && status=0 || status=$?
[ "$status" != 0 ] && grep -q 'libbiv.so.0.1: undefined symbol: ' "$folder/log" &&
  ! grep -q 'find library=libtorch_cpu.so' "$folder/log" || {
  cat "$folder/log" >&2
  echo "linking: another libtorch is not shown as the page says" >&2
  exit 1
}
echo "linking: $ran lines of docs/linking.md run as they stand"
