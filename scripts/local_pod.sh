#!/usr/bin/env bash
# Runs an r1jax command as N processes on this machine, each with D emulated CPU devices: a pod in miniature.
#   scripts/local_pod.sh 2 4 train configs/quickstart.yaml mesh.fsdp=2
set -euo pipefail
if [ $# -lt 4 ]; then
  echo "usage: $0 PROCESSES DEVICES_EACH VERB CONFIG [key=value ...]" >&2
  exit 2
fi
processes=$1 devices=$2
shift 2
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])')
export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=$devices JAX_NUM_PROCESSES=$processes JAX_COORDINATOR_ADDRESS=localhost:$port
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
trap 'exit 143' INT TERM
for ((i = 1; i < processes; i++)); do
  JAX_PROCESS_ID=$i r1jax "$@" > /dev/null &
done
JAX_PROCESS_ID=0 r1jax "$@" &
for ((i = 0; i < processes; i++)); do wait -n; done  # the first to fail ends the script, and with it the others
