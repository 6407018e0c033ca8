#!/usr/bin/env bash
# Runs r1jax on a pod of Cloud TPU VMs; `scripts/tpu_pod.sh --help` and docs/pods.md, "Launching", say how. It needs
# bash 4.4 or newer, git and gcloud.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat << 'END'
usage: scripts/tpu_pod.sh COMMAND POD [option ...] [argument ...]

  create POD                      requests the pod as a queued resource and waits until it is there
  setup  POD [CONFIG]             copies the code to all workers and installs it, with what the config needs
  run    POD VERB [argument ...]  starts `r1jax VERB ...` on all workers; it goes on when this terminal is closed
  logs   POD                      follows the log of a worker until the run ends
  status POD                      says how the request and the workers are
  stop   POD                      asks the run to end after its step or rollout, with a checkpoint
  fetch  POD FOLDER [TO]          copies a folder from worker 0 to this machine
  delete POD                      deletes the pod and its request
  watch  POD VERB [argument ...]  create, setup and run, again whenever the pod was pre-empted, until the run ends

options, which come before the arguments; the variable in brackets does the same:
  --zone ZONE         the pod's zone [TPU_ZONE]
  --type TYPE         create, watch: accelerator type, such as v5litepod-16 [TPU_TYPE]
  --version VERSION   create, watch: runtime version; known for v4, v5e, v5p and v6e [TPU_VERSION]
  --spot              create, watch: a spot pod, which is cheaper and may be pre-empted [TPU_SPOT=1]
  --prepare COMMAND   setup, watch: a command for each worker, such as one that mounts a shared folder [TPU_PREPARE]
  --extra NAME        setup, watch: one more extra of r1jax; gym, language, data and wandb are seen in a config
  --data PATH         setup, watch: one more file or folder to copy, which git does not hold
  --dirty             setup, watch: copy the working tree as it is, uncommitted and untracked files too
  --env NAME          run, watch: one more variable to hand on, beside HF_TOKEN and WANDB_API_KEY
  --worker N          logs: which worker, or `all` [0]
  --delete            watch: delete the pod when the run has finished
  --dry-run           print the commands and run none
create and watch look every TPU_POLL_SECONDS, by default 60.
END
}

fail() { echo "error: $1" >&2; exit "${2:-2}"; }  # 2: a mistake in what was given; 1: what went wrong later
say() { echo "$(date +%H:%M:%S) $pod: $*"; }

# Runs a command, or prints it in a dry run.
call() {
  if [ "$dry_run" ]; then show "$@"; echo; else "$@"; fi
}

# The same for a command that reads what a pipe gives it; a dry run says in words what that is.
call_with_input() {
  if [ "$dry_run" ]; then cat > /dev/null; echo "$(show "${@:2}")  # standard input: $1"; else "${@:2}"; fi
}

show() {
  local word words=()
  for word; do
    if [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then words+=("$word"); else words+=("${word@Q}"); fi
  done
  printf '%s' "${words[*]}"
}

queue() { call gcloud compute tpus queued-resources "$1" "$pod" --zone="$zone" "${@:2}"; }

on_workers() { call "${ssh[@]}" --worker="$1" --command="$2"; }

worker_script="bash r1jax/scripts/launch/tpu_worker.sh"

# The state of the request, such as ACTIVE or SUSPENDED; nothing where there is none.
request_state() {
  call gcloud compute tpus queued-resources list --zone="$zone" --filter="name~/$pod\$" --format="value(state.state)"
}

check_type() {
  [ "$type" ] || fail "which accelerator? give --type or TPU_TYPE, such as v5litepod-16"
  case ${version:-$type} in
    "$version") ;;
    v4-*) version=tpu-ubuntu2204-base ;;
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v6e-*) version=v2-alpha-tpuv6e ;;
    *) fail "no runtime version is known for $type; give --version or TPU_VERSION" ;;
  esac
}

request() {
  queue create --node-id="$pod" --accelerator-type="$type" --runtime-version="$version" ${spot:+--spot}
}

create() {
  request
  local state
  while [ ! "$dry_run" ]; do
    state=$(request_state)
    say "the request is ${state:-not listed yet}"
    case $state in
      ACTIVE) return ;;
      FAILED | SUSPEND*) fail "the request for $pod is $state; delete it and create it again" 1 ;;
    esac
    sleep "$poll_seconds"
  done
  request_state
}

# Packs what git holds, uv.lock where there is one, so that all workers install the same versions, and --data.
pack() {
  local changes path
  changes=$(git status --porcelain)
  if [ "$changes" ] && [ ! "$dirty" ]; then
    fail "there is work that is not committed; commit it, or give --dirty to copy it as it is:"$'\n'"$changes"
  fi
  for path in ${data[@]+"${data[@]}"}; do
    [[ $path != /* && /$path/ != */../* ]] || fail "--data $path: needs a path in the repository; link it there"
    [ -e "$path" ] || fail "--data $path: there is no such file or folder in $PWD"
  done
  archive=$(mktemp)
  trap 'rm -f "$archive"' EXIT
  { git ls-files -z --cached --others --exclude-standard && printf '%s\0' uv.lock ${data[@]+"${data[@]}"}; } |
    while IFS= read -r -d '' path; do
      if [ -e "$path" ]; then printf '%s\0' "$path"; fi  # what was deleted and not committed is left out
    done |
    call_with_input "the files of git, uv.lock and ${data[*]:-no data}" \
      tar --create --gzip --dereference --file="$archive" --null --files-from=-
}

# The extras that configs, or settings among the arguments, need.
extras_of() {
  local argument text=""
  for argument; do
    if [ -f "$argument" ]; then text+=$(sed 's/#.*//' "$argument")$'\n'; else text+=$argument$'\n'; fi
  done
  if grep -q 'gym:' <<< "$text"; then echo gym; fi
  if grep -q 'name: language' <<< "$text"; then echo language; fi
  if grep -Eq 'tfds:|parquet' <<< "$text"; then echo data; fi
  if grep -q 'wandb_project' <<< "$text"; then echo wandb; fi
}

install() {
  local extra options=""
  for extra in tpu ${extras[@]+"${extras[@]}"} $(extras_of "$@"); do options+=" --extra $extra"; done
  local unpack="mkdir -p r1jax && tar -xzf r1jax.tar.gz -C r1jax"
  call gcloud compute tpus tpu-vm scp "$archive" "$pod:r1jax.tar.gz" --zone="$zone" --worker=all &&
    on_workers all "${prepare:+($prepare) && }$unpack && $worker_script setup$options"
}

# NAME=value, a line each, for the variables that are set. printf is the shell's own, so that no process has a token
# among its arguments.
variables() {
  local name
  for name in "${names[@]}"; do
    [[ ${!name-} != *$'\n'* ]] || fail "$name has a line break, which cannot be handed on"
    if [ "${!name-}" ]; then printf '%s=%s\n' "$name" "${!name}"; fi
  done
}

# The workers have a minute to find each other, so they are started at once, each with an input of its own.
run() {
  local count worker arguments starts=() failed=""
  [ $# -gt 0 ] || fail "run needs a verb of r1jax and its arguments, such as: train configs/quickstart.yaml"
  printf -v arguments ' %q' "$@" mesh.distributed=true
  count=$(call gcloud compute tpus tpu-vm describe "$pod" --zone="$zone" \
    --format="value(networkEndpoints.len())") || return
  if [ "$dry_run" ]; then
    echo "$count"
    echo "# and then for each worker at once, here for the first:"
    count=1
  fi
  for ((worker = 0; worker < count; worker++)); do
    variables | call_with_input "NAME=value of ${names[*]}, where set" \
      "${ssh[@]}" --worker="$worker" --command="$worker_script start$arguments" &
    starts+=($!)
  done
  for worker in "${!starts[@]}"; do
    wait "${starts[worker]}" || failed+=" $worker"
  done
  [ -z "$failed" ] || fail "worker$failed of $pod did not start; the others end by themselves in a minute" 1
}

status() {
  local state
  state=$(request_state)
  if [ "$dry_run" ]; then echo "$state"; else say "the request is ${state:-not there}"; fi
  if [ "$dry_run" ] || [ "$state" = ACTIVE ]; then workers; fi
}

workers() { on_workers all "$worker_script status 2> /dev/null || echo \$(hostname): not set up"; }

fetch() {
  [ $# -gt 0 ] || fail "fetch needs the folder on the pod, such as /mnt/shared/runs/quickstart"
  call gcloud compute tpus tpu-vm scp "$pod:$1" "${2:-.}" --zone="$zone" --worker=0 --recurse
}

# Looks at request and workers again and again, and does what is next. A pre-emption is no failure; five are the end.
watch() {
  [ $# -gt 0 ] || fail "watch needs a verb of r1jax and its arguments, such as: train configs/quickstart.yaml"
  pack  # once, so that what resumes is what began
  if [ "$dry_run" ]; then
    echo "# every $poll_seconds s:"; request_state
    echo "# where the request was SUSPENDED or has FAILED:"; delete
    echo "# where there is none:"; request
    echo "# where it is ACTIVE:"; workers
    echo "# where nothing was started:"; install "$@"; run "$@"
    return
  fi
  local state report seen before="" started="" failures=0
  while [ "$failures" -lt 5 ]; do
    state=$(request_state) || state="not known, as gcloud failed"
    report=""
    if [ "$state" = ACTIVE ]; then report=$(workers) || report=""; fi
    seen="the request is ${state:-not there yet}; ${report:-no word from the workers}"
    if [ "$seen" != "$before" ]; then say "$seen"; fi
    before=$seen
    case $state in
      "") request || failures=$((failures + 1)) ;;
      SUSPENDED | FAILED) delete || true ;;
      ACTIVE)
        if [ -z "$report" ]; then
          :  # they cannot be reached; the pod may be about to go
        elif grep -q ': running' <<< "$report"; then
          started=1
        elif [ -z "$started" ] || grep -Eq ': not (set up|started)$' <<< "$report"; then
          if (install "$@" && run "$@"); then started=1; else failures=$((failures + 1)); fi
        elif grep -q 'as stop asked$' <<< "$report"; then
          return 143
        elif grep -Eq 'exit code [12]$' <<< "$report"; then
          fail "the run needs you; its log: scripts/tpu_pod.sh logs $pod --zone $zone" 1
        elif ! grep -qv 'exit code 0$' <<< "$report"; then
          if [ "$delete_after" ]; then delete; fi
          return 0
        else
          if grep -Eqv 'exit code (0|130|143)$' <<< "$report"; then failures=$((failures + 1)); fi
          started=""  # and so begins again, with setup, as a machine that was restarted has lost its mounts
        fi ;;
    esac
    sleep "$poll_seconds"
  done
  fail "five failures; see: scripts/tpu_pod.sh status $pod --zone $zone, and logs" 1
}

delete() { queue delete --force --quiet; }

case ${1-} in
  -h | --help | help) usage; exit 0 ;;
  create | setup | run | logs | status | stop | fetch | delete | watch) ;;
  *) usage >&2; fail "${1-nothing} is no command; the first argument has to be one of those above" ;;
esac
command=$1 pod=${2-}
[[ $pod =~ ^[a-z][a-z0-9-]*$ ]] ||
  fail "${pod:-nothing} is no name of a pod; it has to follow $command: small letters, digits, hyphens"
shift 2
zone=${TPU_ZONE-} type=${TPU_TYPE-} version=${TPU_VERSION-} spot=${TPU_SPOT-} prepare=${TPU_PREPARE-}
worker=0 dirty="" dry_run="" delete_after="" poll_seconds=${TPU_POLL_SECONDS:-60}
extras=() data=() names=(HF_TOKEN WANDB_API_KEY)
while [[ ${1-} == --* ]]; do
  case $1 in
    --spot) spot=1; shift; continue ;;
    --dirty) dirty=1; shift; continue ;;
    --delete) delete_after=1; shift; continue ;;
    --dry-run) dry_run=1; shift; continue ;;
    --zone | --type | --version | --prepare | --extra | --data | --env | --worker) ;;
    *) fail "$1 is no option; scripts/tpu_pod.sh --help has them" ;;
  esac
  [ $# -gt 1 ] || fail "$1 needs a value"
  case $1 in
    --zone) zone=$2 ;;
    --type) type=$2 ;;
    --version) version=$2 ;;
    --prepare) prepare=$2 ;;
    --extra) extras+=("$2") ;;
    --data) data+=("$2") ;;
    --env)
      [[ $2 =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || fail "--env $2: needs the name of a variable, such as HF_HOME"
      names+=("$2") ;;
    --worker) worker=$2 ;;
  esac
  shift 2
done
[ "$zone" ] || fail "which zone is $pod in? give --zone or TPU_ZONE, such as us-west4-a"
[ "$dry_run" ] || type gcloud > /dev/null 2>&1 || fail "gcloud is not installed; install it, or look with --dry-run"

ssh=(gcloud compute tpus tpu-vm ssh "$pod" --zone="$zone" --ssh-flag=-oServerAliveInterval=30)

case $command in
  create | watch) check_type; "$command" "$@" ;;
  setup) pack; install "$@" ;;
  logs) on_workers "$worker" "$worker_script log" ;;
  stop) on_workers all "$worker_script stop" ;;
  *) "$command" "$@" ;;
esac
