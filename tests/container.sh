#!/usr/bin/env bash
# Runs the steps of scripts/container/ as root in Debian's own files, in place of images: builds libbiv from the files that
# apptainer.def names, where this machine's Rust stands in for the image's, then checks the result in a root with nothing
# else. Needs mmdebstrap, 6 GB and ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
  echo "SKIPPED container: $1"
  exit 0
}
fail() {
  echo "container: FAILED: $1" >&2
  exit 1
}
[ "$(id -u)" = 0 ] || skip "chroot needs root"
command -v mmdebstrap > /dev/null || skip "mmdebstrap is not installed (apt-get install mmdebstrap)"

# The same files in both recipes.
definition=$(sed -n '/^%files$/,/^$/p' scripts/container/apptainer.def | sed -nE 's/^ +(\S+) .*/\1/p')
containerfile=$(sed '/^FROM .*slim/,$d' scripts/container/Containerfile | sed -nE 's/^COPY (.*) \S+$/\1/p' | tr ' ' '\n')
[ "$(sort <<< "$definition")" = "$(sort <<< "$containerfile")" ] || fail "apptainer.def and Containerfile copy other files"

dir=$(mktemp -d "${TMPDIR:-/tmp}/biv-container.XXXXXX")
mounts=()
clean() {
  for place in "${mounts[@]}"; do umount "$place"; done
  rm -rf "$dir"
}
trap clean EXIT
lend() { # lend PLACE INSIDE: a folder of this machine, read-only, in the root of the build
  mkdir -p "$dir/build$2"
  mount --bind "$1" "$dir/build$2" || skip "folders cannot be mounted here"
  mounts=("$dir/build$2" "${mounts[@]}")
}

mmdebstrap --quiet --variant=minbase --include=ca-certificates,gcc,libc6-dev bookworm "$dir/root.tar"
for root in build final; do
  mkdir "$dir/$root"
  tar -C "$dir/$root" -xf "$dir/root.tar" --exclude='./dev/*'
  # What a container's /dev has and the steps use.
  mknod -m 666 "$dir/$root/dev/null" c 1 3
  mknod -m 666 "$dir/$root/dev/urandom" c 1 9
done
rm "$dir/root.tar"
mkdir -p "$dir/build/opt/libbiv"
git archive HEAD -- $definition | tar -C "$dir/build/opt/libbiv" -xf -
lend "$(rustc --print sysroot)" /usr/local/rust
lend "${CARGO_HOME:-$HOME/.cargo}/registry" /usr/local/cargo/registry
# How this machine reaches what is downloaded.
cp /etc/resolv.conf "$dir/build/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$dir/build/etc/ssl/certs/"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$dir/build/etc/"

inside() { # inside ROOT COMMAND...
  chroot "$dir/$1" /usr/bin/env -i HOME=/root PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    CARGO_HOME=/usr/local/cargo DEBIAN_FRONTEND=noninteractive "${@:2}"
}
inside build sh -c 'cd /opt/libbiv && CUDA=0 scripts/container/build.sh' > "$dir/log" 2>&1 ||
  { tail -30 "$dir/log" >&2; fail "the build"; }
cp -r "$dir/build/opt/biv" "$dir/final/opt/biv"
cp scripts/container/check.sh "$dir/final/opt/biv/check.sh"
inside final /opt/biv/check.sh || fail "the image's own test"
echo "container: the recipe's steps build a program that trains ($(du -sh "$dir/final/opt/biv" | cut -f1))"
