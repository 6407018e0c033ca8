"""A config of two short stages on a tiny model, and a model that any mesh of 8 devices divides."""

from r1jax.models import ModelConfig

DIVISIBLE = ModelConfig(
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=2,  # fewer than the largest tensor axis: repeated there
    head_dim=4,
    qkv_bias=True,
    qk_norm=True,
    dtype="float32",
)

TINY = """
run_dir: {folder}
task: {{name: arithmetic, min_digits: 1, max_digits: 2, direct_share: 0.5}}
model:
  hidden_size: 16
  intermediate_size: 32
  num_hidden_layers: 1
  num_attention_heads: 8
  num_key_value_heads: 2
  head_dim: 4
  family: qwen3
  dtype: float32
max_prompt_length: 6
max_completion_length: 32
evaluate: {{problems: 12, samples: 2}}
completions_every: 2
stages:
  - name: cold_start
    program: sft
    steps: 3
    prompts_per_step: 16
    optimizer: {{learning_rate: 1e-2}}
    save_every: 2
  - name: rl
    program: grpo
    steps: 3
    prompts_per_step: 8
    group_size: 4
    minibatches: 2
    kl: {{coef: 0.01}}
    rewards: {{accuracy: 1.0, format: 0.2}}
    optimizer: {{learning_rate: 1e-3}}
    eval_every: 2
    save_every: 2
"""
