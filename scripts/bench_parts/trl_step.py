"""GRPO steps of TRL's GRPOTrainer with transformers' generate, timed on the same work; no completion may end early.

    uv run --no-project --with trl python scripts/bench_parts/trl_step.py WORK

bfloat16 are weights, activations and Adam's moments. AdamW at 1e-6, gradients clipped at norm 1, no KL.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_DISABLED": "true"}

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from work import read_work, sums, write_result


def varied(completions: list[Any], **_: Any) -> list[float]:
    return [float(len(completion[0]["content"]) % 7) for completion in completions]


class Timed(GRPOTrainer):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.rollout_s: list[float] = []
        self.tokens: list[int] = []
        super().__init__(*arguments, **settings)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        begin = time.perf_counter()
        out = super()._generate_and_score_completions(inputs)
        self.rollout_s.append(time.perf_counter() - begin)
        self.tokens.append(int(out["completion_mask"].sum()))
        return out


class Clock(TrainerCallback):
    """Whole steps: training_step alone would leave out the clipping and the optimizer."""

    def __init__(self) -> None:
        self.step_s: list[float] = []
        self.cpu_s: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.begin, self.worked = time.perf_counter(), time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.step_s.append(time.perf_counter() - self.begin)
        self.cpu_s.append(time.process_time() - self.worked)


def main() -> None:
    work = read_work()
    torch.set_num_threads(os.cpu_count() or 1)
    sequences, at_once = work["prompts"] * work["samples"], work["microbatch"]
    rows = [
        {"prompt": [{"role": "user", "content": row["question"]}]}
        for row in sums(work["prompts"] * (work["repeats"] + 1))
    ]
    settings = GRPOConfig(
        output_dir=str(Path(sys.argv[1]).parent / "trl"),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=sequences // at_once,
        num_generations=work["samples"],
        max_completion_length=work["tokens"],
        max_steps=work["repeats"] + 1,
        learning_rate=1e-6,
        beta=0.0,
        bf16=False,
        model_init_kwargs={"dtype": work["dtype"]},
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        shuffle_dataset=False,
        generation_kwargs={"min_new_tokens": work["tokens"]},
        temperature=1.0,
        gradient_checkpointing=False,
        num_iterations=1,
    )
    clock = Clock()
    trainer = Timed(
        model=work["model"],
        reward_funcs=varied,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        callbacks=[clock],
    )
    trainer.train()
    assert set(trainer.tokens) == {sequences * work["tokens"]}, trainer.tokens
    step_s, rollout_s = clock.step_s[1:], trainer.rollout_s[1:]
    write_result(
        {
            "step_s": step_s,
            "cpu_s": clock.cpu_s[1:],
            "rollout_s": rollout_s,
            "update_s": [whole - part for whole, part in zip(step_s, rollout_s, strict=True)],
            "first_step_s": clock.step_s[0],
            "device_peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        }
    )


if __name__ == "__main__":
    main()
