#!/usr/bin/env bash
# What scripts/tpu_pod.sh does on each worker of a pod; it copies this repository, and with it this file, to ~/r1jax.
#   tpu_worker.sh setup [--extra NAME ...]    installs r1jax
#   tpu_worker.sh start VERB [argument ...]   starts `r1jax VERB ...`; its variables are NAME=value lines of the input
#   tpu_worker.sh log | status | stop
# ~/r1jax-run has the log, the process id and, at the end, the exit code.
set -euo pipefail
cd "$(dirname "$0")/../.."
run=~/r1jax-run
mkdir -p "$run"

fail() { echo "$(hostname): error: $1" >&2; exit 1; }

# A run holds the lock, so that a process id from before a reboot cannot mislead.
running() { ! flock --nonblock "$run/lock" true; }

setup() {
  if running; then fail "a run is going on; stop it before setup"; fi
  python3 -m uv --version > /dev/null 2>&1 || python3 -m pip install --quiet uv
  python3 -m uv sync --quiet "$@"
  rm -f "$run/pid" "$run/exit_code" "$run/stop_asked"
}

start() {
  if running; then fail "a run is going on, process $(cat "$run/pid"); stop it first"; fi
  [ -x .venv/bin/r1jax ] || fail "r1jax is not installed; run tpu_pod.sh setup first"
  while IFS= read -r line; do export "${line?}"; done
  rm -f "$run/pid" "$run/exit_code" "$run/stop_asked"
  # A session of its own, which outlives the connection; the variables are in its environment and nowhere else.
  setsid nohup bash "$PWD/scripts/launch/tpu_worker.sh" supervise "$@" >> "$run/log" 2>&1 < /dev/null &
  for _ in {1..100}; do [ -s "$run/pid" ] || sleep 0.1; done
  echo "$(hostname): started, process $(cat "$run/pid")"
}

# r1jax is started without `uv run`: a machine that shuts down sends SIGTERM to all processes, uv hands its own on, and
# r1jax takes the second one as the wish to end without a checkpoint.
supervise() {
  exec 9> "$run/lock"
  flock --timeout 5 9  # `status` holds it for a moment
  trap : TERM  # which a machine that shuts down sends to all; the exit code of r1jax is still to be written
  .venv/bin/r1jax "$@" 9>&- &
  echo $! > "$run/pid"
  local code=0
  local child=$!
  while kill -0 "$child" 2> /dev/null; do
    code=0
    wait "$child" || code=$?  # a signal ends the wait and not the run
  done
  echo "$code" > "$run/exit_code"
  echo "r1jax ended with exit code $code"
}

status() {
  if running; then
    echo "$(hostname): running, process $(cat "$run/pid")"
  elif [ -e "$run/exit_code" ]; then
    echo "$(hostname): ended, exit code $(cat "$run/exit_code")$([ ! -e "$run/stop_asked" ] || echo ', as stop asked')"
  elif [ -e "$run/pid" ]; then
    echo "$(hostname): ended, no exit code; the machine may have been restarted"
  else
    echo "$(hostname): not started"
  fi
}

stop() {
  running || fail "no run is going on"
  # A second signal would end the run without its checkpoint.
  [ ! -e "$run/stop_asked" ] || fail "stop was asked for before; the run ends after its step or rollout, with a checkpoint"
  touch "$run/stop_asked"
  kill -TERM "$(cat "$run/pid")"
  echo "$(hostname): asked to stop; it ends after this step or its rollout, with a checkpoint"
}

log() {
  [ -e "$run/pid" ] || fail "nothing was started"
  tail --lines=100 --follow=name --pid="$(cat "$run/pid")" "$run/log"
  status
}

case ${1-} in
  setup | start | supervise | status | stop | log) "$@" ;;
  *) fail "${1-nothing} is no command; needs setup, start, status, stop or log" ;;
esac
