"""SmolLM2 in r1jax against transformers: 64 greedy tokens on 20 GSM8K questions, and the log-prob of each.

    uv run scripts/get_smollm2.py models/smollm2-135m-instruct
    uv run scripts/check_smollm2.py models/smollm2-135m-instruct

The reference, tests/references/smollm2_gsm8k.npz, is written by scripts/hf_references.py. Tokens must be equal, and
log-probs within 1e-3, both the sampler's and those of the trainer's forward.

Letters: P prompts, B sequences (one a prompt), S prompt positions, T completion positions.
"""

import sys
from pathlib import Path

import jax
import numpy as np

from r1jax.config.sampling import EvaluateSettings
from r1jax.rl.logprobs import completion_log_probs
from r1jax.rl.types import TrainBatch
from r1jax.run.loading import load_model

REFERENCE = Path(__file__).parent.parent / "tests" / "references" / "smollm2_gsm8k.npz"


def main() -> None:
    reference = np.load(REFERENCE)
    prompt_PS, length_P = np.maximum(reference["prompt_ids"], 0), reference["prompt_lengths"]
    expected_PT, expected_length_P = reference["completion_ids"], reference["completion_lengths"]
    loaded = load_model(sys.argv[1], ["model.dtype=float32"]).model
    sampler = loaded.sampler(EvaluateSettings(temperature=0.0), group_size=1, max_new=expected_PT.shape[1])
    with loaded.devices():
        ids = np.arange(len(prompt_PS), dtype=np.int32)
        samples = sampler(loaded.sampling_weights(), prompt_PS, length_P, ids, jax.random.key(0))
        batch = TrainBatch(prompt_PS, length_P, samples.completion_BT, samples.length_B)
        log_probs = jax.jit(lambda params, batch: completion_log_probs(loaded.model, params, batch, temperature=1.0))
        trained_BT, _ = log_probs(loaded.weights, batch)
    real_BT = np.arange(expected_PT.shape[1])[None] < expected_length_P[:, None]
    same = np.where(real_BT, samples.completion_BT == expected_PT, True).all(axis=1) & (
        np.asarray(samples.length_B) == expected_length_P
    )
    print(f"{same.sum()} of {len(same)} completions have the same tokens, {real_BT.sum()} in all")
    worst = 0.0
    for name, logp_BT in (("sampler", samples.logp_BT), ("trainer", trained_BT)):
        difference = np.abs(np.asarray(logp_BT) - reference["logps"])[real_BT].max()
        worst = max(worst, float(difference))
        print(f"{name}: log-probs differ by at most {difference:.1e}")
    sys.exit(0 if same.all() and worst < 1e-3 else 1)


if __name__ == "__main__":
    main()
