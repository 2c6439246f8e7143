#!/usr/bin/env bash
# Runs the Rust tests that are ignored because not every machine has what they need, where this one has it,
# and says what is missing. Those that need a GPU are `make gpu-check`'s.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${BIV_DATA_DIR:-}" ] && [ -d ../shared/data ]; then
  BIV_DATA_DIR=$(realpath ../shared/data)
fi
export BIV_DATA_DIR=${BIV_DATA_DIR:-} PYTHON=${PYTHON:-python3}

tests=()
# needs WHAT TESTS COMMAND...: the tests whose names hold TESTS run where the command succeeds.
needs() {
  if "${@:3}" > /dev/null 2>&1; then
    tests+=("$2")
  else
    echo "SKIPPED $2: there is no $1"
  fi
}
has_data() { [ -f "$BIV_DATA_DIR/bike/hour.csv" ] && [ -d "$BIV_DATA_DIR/wine" ] && [ -d "$BIV_DATA_DIR/acs" ]; }
may_limit_time() {
  local group=/sys/fs/cgroup/biv-try
  [ ! -d /sys/fs/cgroup/cpu ] || group=/sys/fs/cgroup/cpu/biv-try
  [ "$(nproc)" -gt 1 ] && mkdir "$group" || return 1
  local found
  [ -w "$group/cpu.max" ] || [ -w "$group/cpu.cfs_quota_us" ] && found=0 || found=1
  rmdir "$group"
  return $found
}
needs "BIV_DATA_DIR with the real data sets" real_data:: has_data
needs "BIV_DATA_DIR with the real data sets" published_command_lines_run_on_bike_and_wine has_data
needs "right to mount a tmpfs" a_run_on_a_disk_that_fills_up unshare --mount mount -t tmpfs tmpfs /mnt
needs "right to make a control group, or no second processor" as_many_threads_as_a_control_group_has may_limit_time
needs "torch and numpy in $PYTHON" pytorch_installed_here "$PYTHON" -c 'import torch, numpy'

[ ${#tests[@]} -gt 0 ] || exit 0
${CARGO:-cargo} test --release --test integration -- --ignored "${tests[@]}"
