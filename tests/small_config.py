"""A config of two stages as text, for tests of what is wrong with it."""

FILE = """\
run_dir: runs/x
task: {name: arithmetic, max_digits: 2}
model:
  family: llama
  hidden_size: 16
  intermediate_size: 32
  num_hidden_layers: 1
  num_attention_heads: 2
  num_key_value_heads: 2
  head_dim: 8
prompt: {template: r1}
rewards:
  short: {name: overlong, cache: 4}
max_prompt_length: 8
max_completion_length: 32
stages:
  - name: cold_start
    program: sft
    steps: 2
    prompts_per_step: 4
    optimizer: {learning_rate: 1e-3}
  - name: rl
    program: grpo
    steps: 2
    prompts_per_step: 4
    group_size: 4
    rewards:
      accuracy: 1.0
    optimizer:
      learning_rate: 1e-3
"""
