"""What each stage of a run's table gains on held-out problems over the stage that it began with, in percentage points.

    uv run scripts/stage_gains.py runs/r1_smollm2

The intervals are 95 % bootstrap intervals over problems; those of gains are paired, as all stages answer the same ones.
A stage whose source is not in the table is compared with what that began with, and so on; one that began with a model
of its own, with nothing.
"""

import sys
from pathlib import Path

import numpy as np

from r1jax.config.load import load_config
from r1jax.run.comparison import accuracies, bootstrap, read_comparison


def cell(values_P: np.ndarray) -> str:
    """The mean in percent, with its interval."""
    low, high = bootstrap(values_P.tolist())
    return f"{100 * np.nanmean(values_P):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main(folder: Path) -> None:
    config, found = load_config(folder / "config.yaml"), read_comparison(folder)
    names = {entry["stage"]: name for name, entry in found.items()}
    accuracy_P = {entry["stage"]: np.array(accuracies(entry)) for entry in found.values()}
    print("| | accuracy | gain | over |\n|---|---|---|---|")
    for stage, name in names.items():
        source = config.source(stage) if stage != "base" else ""
        while source not in names and source in [each.name for each in config.stages]:
            source = config.source(source)
        if source == "base" and config.model_owner(stage) is not None:
            source = ""
        gain = cell(accuracy_P[stage] - accuracy_P[source]) if source in names else ""
        print(f"| {name} | {cell(accuracy_P[stage])} | {gain} | {names.get(source, '')} |")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
