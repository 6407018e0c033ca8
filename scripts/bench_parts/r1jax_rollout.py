"""Rollouts of r1jax alone, timed: prompts of a given length, groups of any size, completions of any or ragged lengths.

    python scripts/bench_parts/r1jax_rollout.py WORK

With `ragged`, the samples of a first rollout say which tokens, as stop tokens, would end the completions after a
quarter of the maximum on average; a sample depends on its key alone, so that the same rollout with these stop tokens
has these lengths, but for draws that rounding moves.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from model import Compilations, device_peak, random_weights, stopping_at
from work import read_work, sums, worked_problems, write_result

from r1jax.config.model import ModelSettings
from r1jax.config.sampling import PromptSettings, SamplingSettings
from r1jax.config.training import MeshSettings
from r1jax.data.batches import Prompts
from r1jax.huggingface.config import model_config
from r1jax.huggingface.weights import import_params
from r1jax.models import abstract_params, make_model
from r1jax.parallel.mesh import make_mesh
from r1jax.rewards.example import Example
from r1jax.rl.rollout import Sampling, roll_out
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.text.chat_template import read_chat_template
from r1jax.text.prompt import encode_prompt, make_prompt
from r1jax.text.tokenizer import load_tokenizer

STOPS = 4  # stop tokens at most


def load(work: dict[str, Any]) -> LoadedModel:
    folder, mesh = Path(work["model"]), make_mesh(MeshSettings())
    tokenizer = load_tokenizer(str(folder), ())
    config = model_config(ModelSettings(path=work["model"], dtype=work["dtype"]))
    model = make_model(config, tokenizer.size)
    if work["random_weights"]:
        weights = random_weights(model, mesh)
    else:
        weights = import_params(folder, model.config, abstract_params(model, mesh))
    return LoadedModel(model, tokenizer, mesh, weights)


def make_prompts(work: dict[str, Any], loaded: LoadedModel) -> Prompts:
    """Sums; with `prompt_tokens`, after as many worked problems as fit."""
    settings = PromptSettings(chat=read_chat_template(Path(work["model"])) is not None)
    ids, examples = [], []
    for number, row in enumerate(sums(work["prompts"])):

        def prompt(shots: int, row: dict[str, str] = row, number: int = number) -> str:
            question = "\n\n".join([*worked_problems(shots, seed=number), f"Question: {row['question']}"])
            return make_prompt(question if shots else row["question"], settings, loaded.tokenizer)[0]

        shots = 0
        if work["prompt_tokens"]:
            while len(encode_prompt(loaded.tokenizer, prompt(shots + 1))) <= work["prompt_tokens"]:
                shots += 1
        examples.append(Example(row["question"], row["answer"], prompt=prompt(shots)))
        ids.append(encode_prompt(loaded.tokenizer, examples[-1].prompt))
    width = work["prompt_tokens"] or max(map(len, ids))
    prompt_PS = np.array([row + [0] * (width - len(row)) for row in ids], np.int32)
    lengths_P = np.array([len(row) for row in ids], np.int32)
    return Prompts(examples, prompt_PS, lengths_P, np.arange(len(ids), dtype=np.int32))


class Rollouts:
    """Timed rollouts of the same samples."""

    def __init__(self, work: dict[str, Any], loaded: LoadedModel) -> None:
        self.work, self.loaded = work, loaded
        self.prompts, self.weights = make_prompts(work, loaded), loaded.sampling_weights()

    def __call__(self, tokens: int, stops: tuple[int, ...] = ()) -> tuple[float, Any]:
        """Median seconds of a rollout, and its samples."""
        loaded = dataclasses.replace(self.loaded, tokenizer=stopping_at(self.loaded.tokenizer, *stops))
        settings = SamplingSettings(decode_batch=self.work["decode_batch"])
        sampler = loaded.sampler(settings, group_size=self.work["samples"], max_new=tokens)
        sampling = Sampling(loaded.mesh, loaded.tokenizer, sampler, {})
        seconds, rollout = [], None
        for _ in range(self.work["repeats"] + 1):  # the first compiles
            begin = time.perf_counter()
            key = jax.random.key(0)
            rollout, _ = roll_out(sampling, self.weights, self.prompts, self.work["prompts"], key)
            seconds.append(time.perf_counter() - begin)
        assert rollout is not None
        return statistics.median(seconds[1:]), rollout.samples


def stops_for(completion_BT: np.ndarray, mean: float) -> tuple[tuple[int, ...], np.ndarray]:
    """Token ids that as stop tokens give completions of about this mean length, and the lengths [B] then."""
    B, T = completion_BT.shape
    ids = np.unique(completion_BT)
    first = {int(i): np.where((hit := completion_BT == i).any(1), hit.argmax(1) + 1, T) for i in ids}
    chosen: list[int] = []
    lengths_B = np.full(B, T)
    for _ in range(STOPS):
        best = min(first, key=lambda i: abs(np.minimum(lengths_B, first[i]).mean() - mean))
        shorter_B = np.minimum(lengths_B, first[best])
        if abs(shorter_B.mean() - mean) >= abs(lengths_B.mean() - mean):
            break
        chosen, lengths_B = [*chosen, best], shorter_B
    return tuple(chosen), lengths_B


def measure(work: dict[str, Any], compilations: Compilations) -> dict[str, Any]:
    loaded = load(work)
    tokens, B = work["tokens"], work["prompts"] * work["samples"]
    with loaded.devices():
        rollouts = Rollouts(work, loaded)
        seconds, samples = rollouts(tokens)
        one_token, _ = rollouts(1)
        rounds = -(-B // (work["decode_batch"] or B))  # at full length, those that wait begin when all others end
        decode_step = (seconds - one_token) / max(tokens - 1, 1) / rounds
        result = {
            "rollout_s": seconds,
            "tokens_per_s": B * tokens / seconds,
            "prefill_s": max(one_token - rounds * decode_step, 0.0),
            "decode_step_s": decode_step,
            "prompt_tokens": float(rollouts.prompts.prompt_length_P.mean()),
            "devices": loaded.mesh.devices.size,
        }
        if work["ragged"]:
            completion_BT = np.asarray(samples.completion_BT)
            stops, expected_B = stops_for(completion_BT, tokens / 4)
            ragged, samples = rollouts(tokens, stops)
            lengths_B = np.asarray(samples.length_B)
            same = (lengths_B == expected_B).mean()  # with fewer rows products round otherwise, which may move a draw
            assert same > 0.8, f"only {same:.0%} of the samples are the same with other stop tokens"
            useful = int(lengths_B.sum())
            result |= {
                "ragged_s": ragged,
                "mean_length": useful / B,
                "longest": int(lengths_B.max()),
                "useful_tokens_per_s": useful / ragged,
                "times_useful": ragged / (useful * seconds / (B * tokens)),
            }
    return result | compilations.result() | {"device_peak_bytes": device_peak()}


def main() -> None:
    work = read_work()
    if work["devices"]:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", work["devices"])
    write_result(measure(work, Compilations()))


if __name__ == "__main__":
    main()
