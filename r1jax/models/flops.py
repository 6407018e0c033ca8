"""How many FLOPs the arithmetic of a model needs, whatever a program computes again.

    forward_flops(model.config, positions=2560, predicted=2048)  # of one sequence

Letters: D model width, F mlp hidden, N query heads, K key-value heads, H head dim, L layers, V vocabulary.
"""

from __future__ import annotations

from r1jax.models.transformer import TransformerConfig


def forward_flops(config: TransformerConfig, *, positions: int, predicted: int) -> float:
    """Those of reading one sequence, whose last `predicted` tokens the head predicts: products alone, 2 a weight.

    A position attends to itself and those before it, on average to half of all.
    """
    assert config.vocab_size is not None
    D, F, L = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    N, K, H = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    layer = D * (2 * N + 2 * K) * H + 3 * D * F + N * H * positions  # two products of N·H with positions / 2 keys
    return 2.0 * (L * positions * layer + predicted * D * config.vocab_size)
