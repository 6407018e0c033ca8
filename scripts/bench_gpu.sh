#!/usr/bin/env bash
# The benchmark on one GPU, meant to take less than 10 minutes, which was not measured: steps in bfloat16 and float32, and how rollouts grow.
#   scripts/bench_gpu.sh MODEL_FOLDER [OPTION ...]   # --random-weights where the folder has no weights
# Writes runs/bench_gpu/*.json and *.png. PYTHON="python3" runs it where r1jax is installed and uv is not.
set -euo pipefail
if [ $# -lt 1 ]; then
  echo "usage: $0 MODEL_FOLDER [OPTION ...]" >&2
  exit 2
fi
cd "$(dirname "$0")/.."
bench() {
  name=$1
  shift
  ${PYTHON:-uv run --extra cuda} scripts/bench.py "$@" --out "runs/bench_gpu/$name"
}
bench bfloat16 "$@" --dtype bfloat16 --prompts 16 --samples 16 --tokens 256 --microbatch 64
bench float32 "$@" --prompts 16 --samples 16 --tokens 256 --microbatch 64
for sweep in group tokens ragged; do
  bench "$sweep" "$@" --dtype bfloat16 --prompts 16 --samples 16 --sweep "$sweep"
done
