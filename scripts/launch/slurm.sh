#!/usr/bin/env bash
# Trains on GPU nodes under Slurm, one process for each GPU, which is what JAX makes of Slurm's variables:
#   uv sync --extra cuda                                     # once, on a machine that has a network
#   sbatch scripts/launch/slurm.sh train CONFIG run_dir=FOLDER [key=value ...]
# from this repository, in a folder that all nodes see, as FOLDER has to be. Tokens such as HF_TOKEN are handed on by
# sbatch itself, which copies the environment. Nodes, GPUs and time are options of sbatch: sbatch --nodes=4 ...
#SBATCH --job-name=r1jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --output=slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
# Two minutes before the time is over, r1jax is asked to end after its step or its rollout; a longer step needs a larger number. The
# signal is for the processes of srun alone, so that this script is there to put the job back into the queue.
#SBATCH --signal=TERM@120
set -euo pipefail

if [ $# -lt 2 ]; then
  echo "usage: sbatch $0 VERB CONFIG [key=value ...]" >&2
  exit 2
fi
# Not `uv run`: Slurm signals all processes of a step, and uv would hand its own signal on, as a second one.
r1jax=.venv/bin/r1jax
if [ ! -x "$r1jax" ]; then
  echo "error: $PWD/$r1jax is not there; run uv sync --extra cuda in the repository, and sbatch from it" >&2
  exit 2
fi

# No process is ended because another one ended: all of them write the checkpoint together, and end one by one.
code=0
srun --kill-on-bad-exit=0 --wait=0 "$r1jax" "$@" mesh.distributed=true || code=$?
echo "r1jax ended with exit code $code"
if [ "$code" = 143 ] || [ "$code" = 75 ]; then  # 75: not all processes came within a minute
  echo "the job goes back into the queue, and resumes from the checkpoint"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
