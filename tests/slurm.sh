#!/usr/bin/env bash
# Runs scripts/slurm/ on a real one-machine Slurm in a temporary folder: one experiment,
# a sweep as a job array, both of them requeued in the middle, and the table of a sweep.
# BIV names the program, BIV_DATA_DIR the folder of the data sets.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
program=$(realpath -m "${BIV:-$root/build/install/bin/biv}")

skip() {
  echo "SKIPPED slurm: $1"
  exit 0
}
fail() {
  echo "slurm: FAILED: $1" >&2
  tail -n 15 "$dir"/jobs/*.out "$dir"/log/* >&2 2> /dev/null || true
  exit 1
}
checks=0
check() { # check WHAT COMMAND...
  "${@:2}" || fail "$1"
  checks=$((checks + 1))
}
within() { # within SECONDS COMMAND...: waits until the command succeeds
  local end=$((SECONDS + $1))
  until "${@:2}"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

[ "$(id -u)" = 0 ] || skip "its daemons are started as root"
for tool in munged mungekey slurmctld slurmd sbatch; do
  command -v $tool > /dev/null || skip "$tool is not installed (apt-get install --no-install-recommends slurm-wlm munge)"
done

dir=$(mktemp -d /tmp/biv-slurm.XXXXXX)
chmod 711 "$dir" # munged wants its socket to be in reach of everyone
mkdir "$dir/log" "$dir/state" "$dir/spool" "$dir/jobs"
export SLURM_CONF=$dir/slurm.conf
started=

queue_is_empty() { [ -z "$(squeue --noheader)" ]; }
is_gone() { ! kill -0 "$1"; }
stop() {
  local daemon pid
  if [ -n "$started" ]; then
    scancel --user=root && within 30 queue_is_empty
  fi
  for daemon in slurmd slurmctld munged; do
    pid=$(cat "$dir/$daemon.pid") && kill "$pid" && { within 20 is_gone "$pid" || kill -KILL "$pid"; }
  done
  rm -rf "$dir"
}
trap '{ set +e; stop; } 2> /dev/null' EXIT
trap 'exit 130' INT TERM

host=$(hostname -s)
read -r controller_port node_port < <(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))')
# A requeued job waits until its credential has expired, hence the short life of those.
cat > "$SLURM_CONF" << CONF
ClusterName=biv
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller_port
SlurmdPort=$node_port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld
SlurmdLogFile=$dir/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=5
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF

start() {
  mungekey --create --keyfile="$dir/munge.key" &&
    munged --socket="$dir/munge.socket" --key-file="$dir/munge.key" --pid-file="$dir/munged.pid" \
      --seed-file="$dir/munge.seed" --log-file="$dir/log/munged" &&
    slurmctld && slurmd
} > "$dir/log/start" 2>&1
node_is_idle() { [ "$(sinfo --noheader --format=%t 2> /dev/null)" = idle ]; }
if ! start || ! within 60 node_is_idle; then
  skip "the daemons do not start here: $(tail -qn 1 "$dir"/log/* | tail -n 1)"
fi
started=yes
[ -x "$program" ] || fail "there is no program '$program': make stage, or set BIV"

field() { # field JOB NAME: one value of what Slurm knows about a job
  scontrol --oneliner show job "$1" | tr ' ' '\n' | sed -n "s/^$2=//p" | head -n 1
}
has_ended() { [[ $(field "$1" JobState) =~ COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL|DEADLINE ]]; }
completes() {
  within 300 has_ended "$1" || fail "job $1 has not ended: $(field "$1" JobState)"
  [ "$(field "$1" JobState)" = COMPLETED ]
}
is_json() { python3 -m json.tool "$1" > /dev/null; }
count() { find "$1" -name "$2" | wc -l; }

cd "$dir/jobs"
export BIV=$program BIV_OUT=$dir/jobs/runs BIV_DEVICE=cpu
data=synthetic rows=500
if [ -f "${BIV_DATA_DIR:-}/bike/hour.csv" ]; then
  data=bike rows=7000
fi
strings=("exp_tag,7159,$data,True,$rows" "vanilla_ann,biv,0.5" "True,uniform" "boundaries" "0,1")
submit() { sbatch --parsable --cpus-per-task=1 "$@"; }

# One experiment; the same strings are the same run, others another one.
status=0
"$root/scripts/slurm/run.sh" one two 2> usage || status=$?
check "a wrong number of strings is told how to" grep -q '^usage: sbatch' usage
check "a wrong number of strings fails" [ $status = 2 ]
job=$(submit "$root/scripts/slurm/run.sh" "${strings[@]}")
check "the experiment completes" completes "$job"
result=$(find runs -name result.json)
check "the experiment leaves a result" is_json "$result"
cp "$(dirname "$result")/metrics.jsonl" metrics.complete
job=$(submit "$root/scripts/slurm/run.sh" "${strings[@]}")
check "a complete run completes again" completes "$job"
check "a complete run is not run again" cmp metrics.complete "$(dirname "$result")/metrics.jsonl"
job=$(submit "$root/scripts/slurm/run.sh" "${strings[@]}" "128,0,True,0.01")
check "the experiment with other settings completes" completes "$job"
check "other settings have a run directory of their own" [ "$(count runs result.json)" = 2 ]

# One network by two processes: as one process trains it, to rounding.
job=$(BIV_OUT=$dir/jobs/together submit --ntasks=2 "$root/scripts/slurm/run.sh" "${strings[@]}")
check "the experiment of two processes completes" completes "$job"
check "two processes leave one result" [ "$(count together result.json)" = 1 ]
check "two processes train as one" python3 -c '
import json, sys
one, two = (json.load(open(name)) for name in sys.argv[1:])
assert abs(two["effective_batch_size"] - one["effective_batch_size"]) < 1e-9
assert abs(two["best"]["rmse"] / one["best"]["rmse"] - 1) < 0.05' "$result" "$(find together -name result.json)"

# A fit by two processes: bit for bit as one process fits it.
awk 'BEGIN { OFS = ","; print "x,y,sd"; for (i = 0; i < 120; ++i) print i / 20, sin(i / 20) + i % 7 / 10, 0.1 + i % 3 }' > rows.csv
fit=("$program" fit rows.csv --label y --std sd --members 3 --epochs 3 --batch-size 32 --threads 1)
"${fit[@]}" --out fit.one > fit.out 2>&1
job=$(submit --ntasks=2 --wrap "srun --cpus-per-task=1 ${fit[*]} --out fit.two")
check "the fit of two processes completes" completes "$job"
check "two processes fit as one" cmp fit.one/model.biv fit.two/model.biv

# The program, stopped after its first checkpoint until Slurm has interrupted it once;
# the first task of an array is left alone.
cat > held << HELD
#!/usr/bin/env bash
set -euo pipefail
task=\${SLURM_ARRAY_TASK_ID:-run}
[ "\$1" = sweep ] || set -- "\$@" --epochs 1000
[ "\$task" != 0 ] && [ "\${SLURM_RESTART_COUNT:-0}" = 0 ] || exec "$program" "\$@"
touch started
"$program" "\$@" --checkpoint-seconds 0 &
until checkpoint=\$(find "\$BIV_OUT" -name checkpoint.biv -newer started 2> /dev/null) && [ -n "\$checkpoint" ]; do
  kill -0 \$!
  sleep 0.01
done
kill -STOP \$!
dirname "\$checkpoint" > "held.\$task"
wait
HELD
chmod +x held
# The log of the run, which tells the times, still begins as before the interruption.
resumed() { cmp "metrics.$1" <(head -n 1 "$(cat "held.$1")/metrics.jsonl"); }
export BIV=$dir/jobs/held

# An interrupted experiment goes on in the same directory.
export BIV_OUT=$dir/jobs/requeued
job=$(submit "$root/scripts/slurm/run.sh" "${strings[@]}")
check "the experiment writes a checkpoint" within 120 [ -s held.run ]
head -n 1 "$(cat held.run)/metrics.jsonl" > metrics.run
check "an interrupted experiment has no result" [ "$(count requeued result.json)" = 0 ]
scontrol requeue "$job"
check "the requeued experiment completes" completes "$job"
check "Slurm has started it twice" [ "$(field "$job" Restarts)" = 1 ]
check "it leaves one result" is_json "$(find requeued -name result.json)"
check "it goes on where it was" resumed run

# A sweep as an array, one task at a time, and its table as a job that waits for it.
# The last task is told, in the way Slurm does it, that its time is over.
cat > grid.toml << 'GRID'
[base]
epochs = 1000
dataset = { kind = "synthetic", train_size = 500, test_size = 200 }
model = { kind = "mlp", hidden = [16] }
[grid]
seeds = [1, 2]
losses = [{ kind = "biv", epsilon = 0.5 }]
noises = [{ distribution = { kind = "gamma", mean = 20, variance = 400 } }]
GRID
export BIV_OUT=$dir/jobs/sweeps
cells=$("$program" sweep grid.toml --count)
check "the grid has two cells" [ "$cells" = 2 ]
array=$(submit --array=0-$((cells - 1))%1 "$root/scripts/slurm/sweep.sh" grid.toml)
table=$(submit --dependency=afterany:"$array" --output=table.out --wrap \
  "find sweeps -name result.json > gathered; '$program' sweep grid.toml --out sweeps/grid --table")
check "the second cell writes a checkpoint" within 300 [ -s held.1 ]
head -n 1 "$(cat held.1)/metrics.jsonl" > metrics.1
check "a task trains its own cell only" [ "$(count sweeps result.json)" = 1 ]
scancel --batch --signal=USR1 "${array}_1"
check "the table's job completes" completes "$table"
check "the table's job has waited for all cells" [ "$(wc -l < gathered)" = 2 ]
check "the first cell completes" completes "${array}_0"
check "the second cell completes" completes "${array}_1"
check "the first cell has not been started again" [ "$(field "${array}_0" Restarts)" = 0 ]
check "the second cell has been started twice" [ "$(field "${array}_1" Restarts)" = 1 ]
check "it goes on where it was" resumed 1
check "each cell leaves a result" is_json "$(head -n 1 gathered)"
check "each cell leaves a result" is_json "$(tail -n 1 gathered)"
check "the table tells of the loss" grep -qi biv table.out
check "the table is there for programs" grep -q , sweeps/grid/table.csv
check "the table is there for people" [ -s sweeps/grid/table.md ]

echo "slurm: $checks checks on $(slurmctld -V), $data data"
