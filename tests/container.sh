#!/usr/bin/env bash
# Builds scripts/container/Containerfile by Podman, and runs the lines of docs/cluster.md with the image. The images that it
# starts from are not fetched: Debian's packages stand in for them, and this machine's Rust for that of the first.
# As root; needs 8 GB and, on two idle cores, about ten minutes.
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
[ "$(id -u)" = 0 ] || skip "it makes Debian's files as root"
for tool in mmdebstrap podman runc; do
  command -v $tool > /dev/null || skip "$tool is not installed (apt-get install --no-install-recommends $tool)"
done

# The same files in both recipes.
definition=$(sed -n '/^%files$/,/^$/p' scripts/container/apptainer.def | sed -nE 's/^ +(\S+) .*/\1/p')
containerfile=$(sed '/^FROM .*slim/,$d' scripts/container/Containerfile | sed -nE 's/^COPY (.*) \S+$/\1/p' | tr ' ' '\n')
difference=$(diff <(sort <<< "$definition") <(sort <<< "$containerfile")) ||
  fail "apptainer.def (<) and Containerfile (>) copy other files:"$'\n'"$difference"

dir=$(mktemp -d "${TMPDIR:-/tmp}/biv-container.XXXXXX")
# A Podman of its own, without bridges, and with limits that need no privilege.
cat > "$dir/containers.conf" << END
[containers]
netns = "host"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
END
cat > "$dir/storage.conf" << END
[storage]
driver = "overlay"
graphroot = "$dir/storage"
runroot = "$dir/run"
END
export CONTAINERS_CONF=$dir/containers.conf CONTAINERS_STORAGE_CONF=$dir/storage.conf

clean() {
  podman rmi --all --force > /dev/null || true
  # What is mounted there is not ours to remove.
  if findmnt --list --noheadings --output TARGET | grep "^$dir/" >&2; then fail "these mounts remain, and $dir"; fi
  rm -rf "$dir"
}
trap clean EXIT

mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$dir/root.tar"
for image in $(sed -nE 's/^FROM (\S+).*/\1/p' scripts/container/Containerfile); do
  case $image in
    */rust:*) environment=(CARGO_HOME=/usr/local/cargo PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin) ;;
    *) environment=() ;;
  esac
  podman import --quiet "${environment[@]/#/--change=ENV }" "$dir/root.tar" "$image" > /dev/null
done
rm "$dir/root.tar"
lent=(--volume "$(rustc --print sysroot):/usr/local/rust:ro"
  --volume "${CARGO_HOME:-$HOME/.cargo}/registry:/usr/local/cargo/registry:ro")
# How this machine reaches what is downloaded.
for file in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf; do
  [ ! -e $file ] || lent+=(--volume "$file:$file:ro")
done

# Only what git knows.
mkdir "$dir/checkout"
git ls-files -z | tar --null -T - -c | tar -C "$dir/checkout" -x
cat > "$dir/checkout/run.toml" << END
tag = "container"
seed = 1
epochs = 1
device = "cpu"
noise = { distribution = { kind = "uniform", low = 0.0, high = 1.0 } }
[dataset]
kind = "synthetic"
train_size = 500
END
chmod 755 "$dir"
mkdir -m 777 "$dir/checkout/mine"
cd "$dir/checkout"
podman() {
  case $1 in
    build) command podman build --pull=never "${lent[@]}" "${@:2}" ;;
    *) command podman "$@" ;;
  esac
}
run() { # run COMMAND...: its output only where it fails
  "$@" > "$dir/log" 2>&1 || {
    tail -30 "$dir/log" >&2
    fail "$*"
  }
}
lines=$(grep '^podman ' docs/cluster.md)
while read -r line; do run eval "$line"; done <<< "$lines"
[ -s runs/container-seed1/result.json ] || fail "biv run run.toml has left no result"
# By another user, where nothing else can be written, as in Apptainer.
run podman run --rm --user 1000:1000 --read-only --network none -v "$PWD:/work" -w /work biv run run.toml --out mine/run
cmp runs/container-seed1/test_outs.csv mine/run/test_outs.csv || fail "another user gets other predictions"
run podman run --rm --entrypoint sh biv -c \
  'cd /opt/biv && test -s LICENSE && test -s THIRD-PARTY-LICENSES.txt && test ! -e lib/biv/torch/lib/libtorch_cuda.so'
size=$(podman image inspect --format '{{.Size}}' biv)
echo "container: $(wc -l <<< "$lines") lines of docs/cluster.md run as they stand; the image has $((size / 1000000)) MB"
