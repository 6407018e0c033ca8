#!/usr/bin/env bash
# Runs one r1jax command on every worker of a TPU VM pod; the workers find each other (mesh.distributed).
#   scripts/tpu_pod.sh NAME ZONE train configs/quickstart.yaml run_dir=/mnt/shared/runs/quickstart
# Needs gcloud, and on each worker this repository at ~/r1jax (copied below) and a run_dir that all workers see.
set -euo pipefail
if [ $# -lt 4 ]; then
  echo "usage: $0 TPU_NAME ZONE VERB CONFIG [key=value ...]" >&2
  exit 2
fi
name=$1 zone=$2
shift 2
cd "$(dirname "$0")/.."
archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git archive --format=tar.gz -o "$archive" HEAD
ssh_all=(gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all --command)
gcloud compute tpus tpu-vm scp "$archive" "$name:r1jax.tar.gz" --zone "$zone" --worker=all
"${ssh_all[@]}" "mkdir -p r1jax && tar -xzf r1jax.tar.gz -C r1jax && python3 -m pip install --quiet uv"
printf -v arguments '%q ' "$@" mesh.distributed=true
"${ssh_all[@]}" "cd r1jax && python3 -m uv run --extra tpu r1jax $arguments"
