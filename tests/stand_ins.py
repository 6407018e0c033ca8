"""Stand-ins for gcloud, uv and r1jax, with which a pod is two folders on this machine."""

import os
import time

# Its workers are the folders $PODS/0 and $PODS/1; $PODS/state is the state of the request, $PODS/calls what was called.
GCLOUD = r"""#!/usr/bin/env bash
set -euo pipefail
printf '%s\n' "$*" >> "$PODS/calls"
worker=0 run="" paths=()
for argument; do
  case $argument in
    --worker=*) worker=${argument#*=} ;;
    --command=*) run=${argument#*=} ;;
    --*) ;;
    *) paths+=("$argument") ;;
  esac
done
if [ "$worker" = all ]; then workers=(0 1); else workers=("$worker"); fi
case "$3 $4" in
  "queued-resources create") echo ACTIVE > "$PODS/state"; mkdir "$PODS/0" "$PODS/1" ;;
  "queued-resources list") cat "$PODS/state" 2> /dev/null || true ;;
  "queued-resources delete") rm -rf "$PODS/state" "$PODS/0" "$PODS/1" ;;
  "tpu-vm describe") echo 2 ;;
  "tpu-vm scp")
    from=${paths[4]} to=${paths[5]}
    if [[ $from == *:* ]]; then cp -r "${from#*:}" "$to"; exit; fi
    for worker in "${workers[@]}"; do cp "$from" "$PODS/$worker/${to#*:}"; done ;;
  "tpu-vm ssh")
    code=0
    for worker in "${workers[@]}"; do (cd "$PODS/$worker"; HOME=$PWD bash -c "$run") || code=$?; done
    exit "$code" ;;
esac
"""
# `python3 -m uv sync` on a worker installs this r1jax: it writes a checkpoint when it is asked to stop.
PYTHON = r"""#!/usr/bin/env bash
[ "$3" = sync ] || exit 0
echo "$*" > ~/sync
mkdir -p .venv/bin
cp "$STAND_INS/r1jax_that_waits" .venv/bin/r1jax
"""
WAITS = r"""#!/usr/bin/env bash
trap 'echo checkpoint > ~/run/checkpoint; exit 143' TERM
mkdir -p ~/run
echo "arguments: $*"
echo "${HF_TOKEN-}" | md5sum > ~/run/token
for argument; do
  if [[ $argument == ends_with=* ]]; then sleep 0.5; exit "${argument#*=}"; fi
done
for ((i = 0; i < 1200; i++)); do sleep 0.1; done
"""


def stand_in(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def environment(folder, **variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TPU_", "HF_", "WANDB_"))}
    return kept | {"PATH": f"{folder}:{os.environ['PATH']}", **{name: str(value) for name, value in variables.items()}}


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
