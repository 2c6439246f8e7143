#!/usr/bin/env bash
# Installs Julia on Debian 12, which has no package of it: Debian 11's, whose
# libraries fit beside Debian 12's. Does nothing where julia is there already;
# needs root. The mirror is the one that the machine uses.
set -euo pipefail

if command -v julia > /dev/null; then
  exit 0
fi
# shellcheck source=/dev/null
. /etc/os-release
if [ "${VERSION_CODENAME:-}" != bookworm ] || [ "$(id -u)" != 0 ]; then
  echo "install-julia: this is for Debian 12, as root: install Julia by hand" >&2
  exit 0
fi

# The first of the machine's own sources, in the old format or the new.
sources=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2> /dev/null || :)
first() { sed -nE "$1" <<< "$sources" | head -1; }
mirror=$(first 's/^(deb +(\[[^]]*\] +)?|URIs: *)([a-z+]+:[^ ]+).*/\3/p')
options=$(first 's/^deb +(\[[^]]*\]).*/\1/p')
[ -n "$options" ] || options=$(first 's/^Signed-By: *(.*)/[signed-by=\1]/p')

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
mkdir "$folder/lists"
for suite in bookworm bullseye; do
  echo "deb $options $mirror $suite main"
done > "$folder/sources.list"
apt=(-qq -o "Dir::Etc::sourcelist=$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::Lists=$folder/lists")
apt-get "${apt[@]}" update
DEBIAN_FRONTEND=noninteractive apt-get "${apt[@]}" install -y --no-install-recommends julia > /dev/null

# With Debian 12's libunwind this Julia dies of exceptions that pass through compiled
# code: it gets Debian 11's, in its own folder.
cd "$folder"
apt-get "${apt[@]}" download libunwind8/bullseye
dpkg -x libunwind8_*.deb unpacked
cp unpacked/usr/lib/*/libunwind.so.8 /usr/lib/*/julia/
julia --version
