"""The architectures of published models by their hub ids, as in their config.json, for plans made without the hub."""

from __future__ import annotations

from typing import Any

_QWEN2 = {"model_type": "qwen2", "rms_norm_eps": 1e-6, "rope_theta": 1e6}
_QWEN3 = {"model_type": "qwen3", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "head_dim": 128}
_LLAMA3 = {
    "model_type": "llama",
    "rms_norm_eps": 1e-5,
    "rope_theta": 5e5,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}


def _sizes(hidden: int, mlp: int, layers: int, heads: int, key_value_heads: int, vocabulary: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "vocab_size": vocabulary,
    }


_QWEN2_05B = _QWEN2 | _sizes(896, 4864, 24, 14, 2, 151_936) | {"tie_word_embeddings": True}
_QWEN2_15B = _QWEN2 | _sizes(1536, 8960, 28, 12, 2, 151_936) | {"tie_word_embeddings": True}
_QWEN2_7B = _QWEN2 | _sizes(3584, 18_944, 28, 28, 4, 152_064)
_QWEN3_17B = _QWEN3 | _sizes(2048, 6144, 28, 16, 8, 151_936) | {"tie_word_embeddings": True}
PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-0.5B": _QWEN2_05B,
    "Qwen/Qwen2.5-0.5B-Instruct": _QWEN2_05B,
    "Qwen/Qwen2.5-1.5B": _QWEN2_15B,
    "Qwen/Qwen2.5-1.5B-Instruct": _QWEN2_15B,
    "Qwen/Qwen2.5-Math-1.5B": _QWEN2_15B | {"rope_theta": 1e4},
    "Qwen/Qwen2.5-7B": _QWEN2_7B,
    "Qwen/Qwen2.5-7B-Instruct": _QWEN2_7B,
    "Qwen/Qwen2.5-Math-7B": _QWEN2_7B | {"rope_theta": 1e4},
    "Qwen/Qwen2.5-14B": _QWEN2 | _sizes(5120, 13_824, 48, 40, 8, 152_064) | {"rms_norm_eps": 1e-5},
    "Qwen/Qwen2.5-32B": _QWEN2 | _sizes(5120, 27_648, 64, 40, 8, 152_064) | {"rms_norm_eps": 1e-5},
    "Qwen/Qwen3-0.6B-Base": _QWEN3 | _sizes(1024, 3072, 28, 16, 8, 151_936) | {"tie_word_embeddings": True},
    "Qwen/Qwen3-1.7B": _QWEN3_17B,
    "Qwen/Qwen3-1.7B-Base": _QWEN3_17B,
    "meta-llama/Llama-3.1-8B": _LLAMA3 | _sizes(4096, 14_336, 32, 32, 8, 128_256),
    "meta-llama/Llama-3.3-70B-Instruct": _LLAMA3 | _sizes(8192, 28_672, 80, 64, 8, 128_256),
}
