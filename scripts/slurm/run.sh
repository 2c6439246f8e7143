#!/usr/bin/env bash
#SBATCH --job-name=biv
#SBATCH --output=biv-%j.out
#SBATCH --open-mode=append
#SBATCH --cpus-per-task=4
#SBATCH --requeue
#SBATCH --signal=B:USR1@60
#
# Trains one experiment as a Slurm job; with --ntasks, in several processes that train one
# network together. Options of sbatch come before the script and override the lines above.
# docs/cluster.md has the details.
set -euo pipefail

if [ $# != 3 ] && [ $# != 5 ] && [ $# != 6 ]; then
  cat >&2 <<'USAGE'
usage: sbatch [sbatch options] scripts/slurm/run.sh EXPERIMENT MODEL NOISE [PARAMS PARAMETERS [EXTRA]]

  EXPERIMENT  "tag,seed,dataset,normalize,train_size"                as in "exp_tag,7159,bike,True,7000"
  MODEL       "model,loss[,value]"                                   as in "vanilla_ann,biv,0.5"
  NOISE       "False" or "True,uniform|binary_uniform|gamma"         as in "True,uniform"
  PARAMS      "boundaries|alphabeta|meanvar|meanvar_avg[,p[,X]]"     as in "boundaries"
  PARAMETERS  all first parameters, then all second ones             as in "0,1"
  EXTRA       "batch_size,delta,normalize_loss,learning_rate"        default "256,0,True,0.01"

  BIV           the program biv, where it is not on the PATH
  BIV_OUT       the folder of the run directories, default runs
  BIV_DEVICE    cpu, cuda or auto, default auto
  BIV_DATA_DIR  the folder of the data sets
USAGE
  exit 2
fi

biv=$(command -v "${BIV:-biv}") || {
  echo "run.sh: there is no program '${BIV:-biv}': put biv on the PATH or its path into BIV" >&2
  exit 127
}

# The same strings always name the same run directory, so a job that is requeued or
# submitted again continues there. Other strings name another directory.
tag=${1%%,*}
hash=$(printf '%s\0' "$@" | sha256sum)
run=${BIV_OUT:-runs}/${tag//\//_}-${hash::12}

# A minute before the time limit, Slurm sends SIGUSR1 to this script, which requeues
# the job. Slurm sends SIGTERM to biv as well, so the script only waits.
trap 'scontrol requeue "$SLURM_JOB_ID" || :' USR1
trap : TERM

# srun starts the processes of a job of several tasks, and tells each its rank.
together=()
[ "${SLURM_NTASKS:-1}" = 1 ] || together=(srun --kill-on-bad-exit --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}")

echo "run.sh: $run"
"${together[@]}" "$biv" run --experiment_settings="$1" --model_settings="$2" --noise_settings="$3" \
  ${4:+--params_settings="$4"} ${5:+--parameters="$5"} ${6:+--extra_exp="$6"} \
  --out "$run" --resume --device "${BIV_DEVICE:-auto}" --threads "${SLURM_CPUS_PER_TASK:-$(nproc)}" &

# A trapped signal ends `wait` early, so wait again until biv has ended.
while status=0 && { wait $! || status=$?; } && kill -0 $! 2> /dev/null; do :; done
exit "$status"
