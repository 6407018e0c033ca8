"""GRPO steps of Tunix with its vanilla rollout engine, timed on the same work; no completion may end early.

    uv run --no-project --with google-tunix python scripts/bench_parts/tunix_step.py WORK

For Llama models. bfloat16 are weights, activations and Adam's moments: Tunix's Llama has no mixed mode. AdamW at 1e-6,
gradients clipped at norm 1, no KL.
"""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TPU_SKIP_MDS_QUERY": "1"}

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from transformers import AutoTokenizer
from tunix.models.llama3 import model as llama3
from tunix.models.llama3 import params as llama3_params
from tunix.rl import rl_cluster as rl
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rollout import base_rollout
from work import read_work, sums, write_result

NO_ID = -1  # the end of text, which no token is


def load_model(work: dict[str, Any]) -> tuple[Any, jax.sharding.Mesh]:
    """The folder's weights in Tunix's Llama, whose attention ignores the config's rope_theta (0.1.7): set here."""
    c = json.loads((Path(work["model"]) / "config.json").read_text())
    theta = int(c.get("rope_parameters", c)["rope_theta"])
    rope = getattr(llama3.apply_rope, "func", llama3.apply_rope)
    llama3.apply_rope = functools.partial(rope, rope_theta=theta)
    config = llama3.ModelConfig(
        num_layers=c["num_hidden_layers"],
        vocab_size=c["vocab_size"],
        embed_dim=c["hidden_size"],
        hidden_dim=c["intermediate_size"],
        num_heads=c["num_attention_heads"],
        head_dim=c["head_dim"],
        num_kv_heads=c["num_key_value_heads"],
        rope_theta=theta,
        norm_eps=c["rms_norm_eps"],
        weight_tying=c["tie_word_embeddings"],
    )
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
    dtype = jnp.dtype(work["dtype"])
    return llama3_params.create_model_from_safe_tensors(work["model"], config, mesh, dtype=dtype), mesh


def varied(prompts: Any, completions: list[str], **_: Any) -> list[float]:
    return [float(len(completion) % 7) for completion in completions]


def main() -> None:
    work = read_work()
    P, G, T, at_once, steps = (work[name] for name in ("prompts", "samples", "tokens", "microbatch", "repeats"))
    if at_once % G:
        raise SystemExit(f"Tunix takes whole groups a pass: got {at_once} sequences, need a multiple of {G}")
    parts = {
        "mini_batch_size": P,
        "train_micro_batch_size": at_once // G,
        "rollout_micro_batch_size": P,
        "compute_logps_micro_batch_size": P,
    }
    model, mesh = load_model(work)
    tokenizer = AutoTokenizer.from_pretrained(work["model"])
    # Tunix masks padding by value, and SmolLM2 pads with <|im_end|>, which every prompt contains.
    tokenizer.pad_token = tokenizer.unk_token
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": row["question"]}], tokenize=False, add_generation_prompt=True
        )
        for row in sums(P * (steps + 1))
    ]
    longest = max(len(tokenizer.encode(text)) for text in texts)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-6, b2=0.999, weight_decay=0.0))
    cluster = rl.RLCluster(
        actor=model,
        tokenizer=tokenizer,
        cluster_config=rl.ClusterConfig(
            role_to_mesh={role: mesh for role in (rl.Role.ACTOR, rl.Role.REFERENCE, rl.Role.ROLLOUT)},
            rollout_engine="vanilla",
            training_config=rl.RLTrainingConfig(
                actor_optimizer=optimizer,
                eval_every_n_steps=10**9,
                max_steps=steps + 1,
                **(parts if at_once < P * G else {}),
            ),
            rollout_config=base_rollout.RolloutConfig(
                max_tokens_to_generate=T,
                max_prompt_length=longest,
                kv_cache_size=longest + T,
                temperature=1.0,
                top_p=1.0,
                top_k=None,
                eos_tokens=[NO_ID],
            ),
        ),
    )
    settings = GRPOConfig(num_generations=G, num_iterations=1, beta=0.0)
    learner = GRPOLearner(rl_cluster=cluster, reward_fns=varied, algo_config=settings)
    assert not learner.should_sync_weights  # actor and rollout share their weights, so that no copy is left out

    rollout_s, step_s, cpu_s, tokens = [], [], [], []
    generate, run_step = cluster.rollout.generate, learner._run_global_step

    def timed_generate(*arguments: Any, **named: Any) -> Any:
        begin = time.perf_counter()
        out = generate(*arguments, **named)
        rollout_s.append(time.perf_counter() - begin)
        tokens.append(sum(len(x) for x in out.tokens))
        return out

    def timed_step(*arguments: Any, **named: Any) -> None:
        begin, worked = time.perf_counter(), time.process_time()
        run_step(*arguments, **named)
        jax.block_until_ready(nnx.state(cluster.actor_trainer.model))
        step_s.append(time.perf_counter() - begin)
        cpu_s.append(time.process_time() - worked)

    cluster.rollout.generate, learner._run_global_step = timed_generate, timed_step
    learner.train([{"prompts": np.array(texts[i * P : (i + 1) * P])} for i in range(steps + 1)])
    assert set(tokens) == {P * G * T}, tokens
    statistics = jax.local_devices()[0].memory_stats() or {}
    write_result(
        {
            "step_s": step_s[1:],
            "cpu_s": cpu_s[1:],
            "rollout_s": rollout_s[1:],
            "update_s": [whole - part for whole, part in zip(step_s[1:], rollout_s[1:], strict=True)],
            "first_step_s": step_s[0],
            "device_peak_bytes": statistics.get("peak_bytes_in_use"),
        }
    )


if __name__ == "__main__":
    main()
