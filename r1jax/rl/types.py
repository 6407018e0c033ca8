"""The data of reinforcement learning on devices: `Samples` (of the sampler) → `Rollout` → `TrainBatch`.

Letters: P prompts, G samples per prompt, B = P·G sequences, S prompt positions, T completion positions, I ids that a
token was drawn from.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax

from r1jax.data.packing import Layout
from r1jax.sampling.sampler import Samples

Prepared = Any  # an array from `train_batch.prepare` on, None before it


@flax.struct.dataclass
class Rollout:
    """Prompts, their samples and the samples' rewards, as global arrays.

    `prompt_id_P` are the prompts' positions in the training split. `rewards` maps a reward's name to its scores [B],
    which are NaN where a sample could not be graded, and `applies` to whether a sample has the reward; where it has
    not, its score is NaN and means nothing. Only the groups in `included_P` are trained on.
    """

    prompt_PS: jax.Array
    prompt_length_P: jax.Array
    prompt_id_P: jax.Array
    samples: Samples
    rewards: dict[str, jax.Array]
    applies: dict[str, jax.Array]
    included_P: jax.Array


@flax.struct.dataclass
class TrainBatch:
    """What updates train on: right-padded prompts and completions, and constants for each token.

    `length_B` counts the stop token, and what lies beyond a length is never read. `support_BTI` are the ids that a
    token was drawn from, -1 where there are fewer; None means the whole vocabulary. With a `layout` the model reads
    packed rows, which changes no result. The other fields are filled in by `train_batch.prepare`: `included_B` is False
    for a sample that is not in the loss, and `factor_BT` are constant factors of the policy loss.
    """

    prompt_BS: jax.Array
    prompt_length_B: jax.Array
    completion_BT: jax.Array
    length_B: jax.Array
    support_BTI: jax.Array | None = None
    layout: Layout | None = None
    sampler_logp_BT: Prepared = None
    old_logp_BT: Prepared = None
    reference_logp_BT: Prepared = None
    advantage_BT: Prepared = None
    factor_BT: Prepared = None
    included_B: Prepared = None
    value_BT: Prepared = None
    return_BT: Prepared = None
