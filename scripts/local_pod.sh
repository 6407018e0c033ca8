#!/usr/bin/env bash
# Runs an r1jax command as N processes on this machine, each with D emulated CPU devices: a pod in miniature.
#   scripts/local_pod.sh 2 4 train configs/quickstart.yaml mesh.fsdp=2
# Process 0 writes to the terminal and each other one to a file. Ctrl-C and SIGTERM are handed on to all of them.
set -euo pipefail
if [ $# -lt 4 ]; then
  echo "usage: $0 PROCESSES DEVICES_EACH VERB CONFIG [key=value ...]" >&2
  exit 2
fi
processes=$1 devices=$2
shift 2
if ! [[ $processes =~ ^[1-9][0-9]*$ && $devices =~ ^[1-9][0-9]*$ ]]; then
  echo "error: PROCESSES and DEVICES_EACH have to be positive numbers, not $processes and $devices" >&2
  exit 2
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])')
export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=$devices
export JAX_NUM_PROCESSES=$processes JAX_COORDINATOR_ADDRESS=localhost:$port

# Each process has a process group of its own, so that a signal to this one's group does not reach it a second time:
# r1jax takes a second one as the wish to end without a checkpoint.
set -m
logs=$(mktemp -d "${TMPDIR:-/tmp}/local_pod.XXXXXX")
declare -A number_of=()
for ((i = 0; i < processes; i++)); do
  if [ "$i" = 0 ]; then
    JAX_PROCESS_ID=0 r1jax "$@" &
  else
    JAX_PROCESS_ID=$i r1jax "$@" > "$logs/$i.log" 2>&1 &
  fi
  number_of[$!]=$i
done

received=""
trap 'received=130; kill -s INT "${!number_of[@]}" 2> /dev/null || true' INT
trap 'received=143; kill -s TERM "${!number_of[@]}" 2> /dev/null || true' TERM

tell() {
  echo "local_pod.sh: process $1 of $processes ended with exit code $2" >&2
  if [ "$1" != 0 ]; then
    echo "the end of its output, $logs/$1.log:" >&2
    tail -n 20 "$logs/$1.log" >&2
  fi
}

while [ "${#number_of[@]}" -gt 0 ]; do
  code=0
  wait -n -p pid || code=$?
  if [ -z "${pid-}" ]; then continue; fi  # a signal came while it waited
  number=${number_of[$pid]}
  unset "number_of[$pid]"
  if [ "$code" = 0 ] || [ "$code" = "$received" ]; then continue; fi
  tell "$number" "$code"
  # The others may be about to say the same; what then still waits for the dead one is ended.
  for ((i = 0; i < 50 && ${#number_of[@]} > 0; i++)); do
    kill -0 "${!number_of[@]}" 2> /dev/null || break
    sleep 0.1
  done
  kill -KILL "${!number_of[@]}" 2> /dev/null || true
  exit "$code"
done
exit "${received:-0}"
