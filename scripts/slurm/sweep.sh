#!/usr/bin/env bash
#SBATCH --job-name=biv-sweep
#SBATCH --output=biv-%A_%a.out
#SBATCH --open-mode=append
#SBATCH --cpus-per-task=2
#SBATCH --requeue
#SBATCH --signal=B:USR1@60
#
# Trains one cell of a grid as one task of a Slurm job array. Options of sbatch come
# before the script and override the lines above. docs/cluster.md has the details.
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ] || [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
  cat >&2 <<'USAGE'
usage: sbatch --array=0-$(($(biv sweep GRID.toml --count) - 1)) [sbatch options] scripts/slurm/sweep.sh GRID.toml [DIR]

  DIR           where the runs go, default runs/GRID
  BIV           the program biv, where it is not on the PATH
  BIV_OUT       the folder of DIR's default, in place of runs
  BIV_DATA_DIR  the folder of the data sets

The table of the runs that are there: biv sweep GRID.toml --out DIR --table
USAGE
  exit 2
fi

biv=$(command -v "${BIV:-biv}") || {
  echo "sweep.sh: there is no program '${BIV:-biv}': put biv on the PATH or its path into BIV" >&2
  exit 127
}
out=${2:-${BIV_OUT:-runs}/$(basename "$1" .toml)}

# A minute before the time limit, Slurm sends SIGUSR1 to this script, which requeues the
# task. It names the task by array and index, because the last task of an array has the
# array's job id. Slurm sends SIGTERM to biv as well, so the script only waits.
trap 'scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" || :' USR1
trap : TERM

echo "sweep.sh: cell $SLURM_ARRAY_TASK_ID of $1 into $out"
"$biv" sweep "$1" --out "$out" --only "$SLURM_ARRAY_TASK_ID" --threads "${SLURM_CPUS_PER_TASK:-$(nproc)}" &

# A trapped signal ends `wait` early, so wait again until biv has ended.
while status=0 && { wait $! || status=$?; } && kill -0 $! 2> /dev/null; do :; done
exit "$status"
