"""Settings → optax chain: clip by the global norm, AdamW, a learning-rate schedule."""

from __future__ import annotations

from typing import Any

import optax

from r1jax.config.training import OptimizerSettings

B1 = 0.9  # AdamW's decay of the first moment, the same in every published recipe


def learning_rate(config: OptimizerSettings, updates: int) -> optax.Schedule:
    """Linear warm-up, then constant, or a cosine or straight line down to `min_lr_ratio` of the rate at `updates`."""
    peak, warmup = config.learning_rate, config.warmup_updates
    rest = max(updates - warmup, 1)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, alpha=config.min_lr_ratio)
    elif config.schedule == "linear":
        after = optax.linear_schedule(peak, peak * config.min_lr_ratio, rest)
    else:
        after = optax.constant_schedule(peak)
    # The first update already moves: step 0 has rate peak / (warmup + 1).
    return optax.join_schedules([optax.linear_schedule(peak / (warmup + 1), peak, warmup), after], [warmup])


def updates_made(opt_state: Any) -> Any:
    """How many updates a state of `make_optimizer`'s has behind it: what its learning rate is taken at."""
    return optax.tree.get_all_with_path(opt_state, "count")[0][1]


def make_optimizer(config: OptimizerSettings, updates: int) -> optax.GradientTransformation:
    """The chain for a stage of `updates` updates."""
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adamw(learning_rate(config, updates), B1, config.b2, config.eps, weight_decay=config.weight_decay),
    )
