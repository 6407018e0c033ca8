"""Keys of TRL, verl and Hugging Face, and their equivalents here, for errors about keys that r1jax does not have."""

from __future__ import annotations

# By key: where its value goes, and a note. STAGE is the stage that the key is in, or the first that can have it. Of
# verl's keys, which are nested, the table has the last part or the last few.
EQUIVALENTS: dict[str, tuple[str, str]] = {}


def _add(to: str, *keys: str, note: str = "") -> None:
    EQUIVALENTS.update(dict.fromkeys(keys, (to, note)))


_add("run_dir", "output_dir", "logging_dir", "default_local_dir", "run_name", "experiment_name")
_add("model.path", "model_name_or_path", "model_name", "pretrained_model_name_or_path", "base_model")
_add("model.dtype", "torch_dtype", "model_dtype", "bf16", "fp16", note="bfloat16 or float32")
_add("model.remat", "gradient_checkpointing", "enable_gradient_checkpointing", note="true is remat: full")
_add("tokenizer", "tokenizer_name", "tokenizer_name_or_path", "processing_class", "tokenizer_path")
_add("mesh.tensor", "tensor_parallel_size", "tensor_model_parallel_size", "vllm_tensor_parallel_size", "tp_size")
_add("mesh.fsdp", "fsdp_size")
_add("mesh.context", "ulysses_sequence_parallel_size", "context_parallel_size", "cp_size")
_add("keep_checkpoints", "save_total_limit", "max_to_keep", "max_actor_ckpt_to_keep")
_add("wandb_project", "report_to", "project_name", note="metrics.jsonl and TensorBoard are always written")
_add("completions_every", "log_completions", "rollout_data_dir", note="it counts steps")

_add("task", "dataset_name", "dataset", "train_dataset", "dataset_path", "train_files", note="as in {jsonl: FILE}")
_add("task.test", "eval_dataset", "val_files", note="the file of held-out problems")
_add("rewards", "reward_funcs", "reward_functions", "reward_function", "custom_reward_function",
     note="by name, each a weight or a definition such as {function: file.py:name}")  # fmt: skip
_add("rewards", "reward_weights", note="by name, as in {accuracy: 1.0, format: 0.2}")
_add("prompt.system", "system_prompt")
_add("prompt.chat", "chat_template", "apply_chat_template", note="true or false; the tokenizer brings the template")
_add("max_prompt_length", "max_prompt_len", "max_input_length", "prompt_length")
_add("max_completion_length", "max_new_tokens", "max_tokens", "max_completion_len", "max_response_length",
     "response_length", "generate_max_len", "max_tokens_to_generate")  # fmt: skip
_add("max_prompt_length and max_completion_length", "max_seq_length", "max_seq_len", "max_length", "max_model_len")

_add("STAGE.group_size", "num_generations", "rollout.n", "n_samples_per_prompt", "num_samples_per_prompt")
_add("STAGE.steps", "max_steps", "total_training_steps", "num_steps", "train_steps",
     note="a step is a rollout with all its updates")  # fmt: skip
_add("STAGE.steps", "num_train_epochs", "total_epochs", "num_epochs", "epochs", "num_episodes",
     note="epochs are steps × prompts_per_step ÷ examples")  # fmt: skip
_add("STAGE.prompts_per_step", "batch_size", "train_batch_size", "generation_batch_size", "rollout_batch_size",
     "per_step_batch_size", note="a step has prompts_per_step × group_size completions")  # fmt: skip
_add("STAGE.microbatch", "per_device_train_batch_size", "ppo_micro_batch_size_per_gpu", "micro_batch_size",
     "micro_batch_size_per_gpu", "ppo_micro_batch_size", note="it counts sequences at once on each device")  # fmt: skip
_add("STAGE.microbatch", "gradient_accumulation_steps",
     note="how often gradients are accumulated follows from it")  # fmt: skip
_add("STAGE.minibatches", "num_iterations", "ppo_epochs", "num_ppo_epochs", "steps_per_generation",
     note="it counts the updates of a step, and each completion is in one of them")  # fmt: skip
_add("STAGE.minibatches", "ppo_mini_batch_size", "mini_batch_size", "num_mini_batches",
     note="it counts the updates of a step: completions ÷ mini-batch size")  # fmt: skip
_add("STAGE.pack_length", "packing", "use_remove_padding", "use_dynamic_bsz", note="it is the length of a packed row")
_add("STAGE.eval_every", "eval_steps", "test_freq", "eval_strategy", "evaluation_strategy", "eval_interval",
     note="it counts steps")  # fmt: skip
_add("STAGE.save_every", "save_steps", "save_freq", "save_strategy", "save_interval", note="it counts steps")
_add("STAGE.truncated", "mask_truncated_completions", "overlong_filter", note="as in truncated: mask")

_add("STAGE.optimizer.learning_rate", "lr")
_add("STAGE.optimizer.warmup_updates", "warmup_steps", "lr_warmup_steps", "num_warmup_steps", note="it counts updates")
_add("STAGE.optimizer.warmup_updates", "warmup_ratio", "lr_warmup_steps_ratio",
     note="it counts updates: the ratio × steps × minibatches")  # fmt: skip
_add("STAGE.optimizer.schedule", "lr_scheduler_type", "lr_schedule", "lr_decay_style", "warmup_style")
_add("STAGE.optimizer.min_lr_ratio", "min_lr", "min_lr_rate", note="a fraction of learning_rate")
_add("STAGE.optimizer.b2", "adam_beta2", "beta2")
_add("STAGE.optimizer.b2", "betas", note="b1 is 0.9")
_add("STAGE.optimizer.eps", "adam_epsilon")
_add("STAGE.optimizer.max_grad_norm", "grad_clip", "max_norm", "clip_grad", "gradient_clip_val")

_add("STAGE.kl.coef", "beta", "kl_coef", "init_kl_coef", "kl_loss_coef", "kl_beta")
_add("STAGE.kl.estimator", "kl_loss_type", "kl_penalty", "kl_estimator")
_add("STAGE.kl.place", "use_kl_loss", "use_kl_in_reward", note="loss or reward")
_add("STAGE.kl.sync_reference_every", "ref_model_sync_steps", "sync_ref_model",
     note="it counts steps, and a sync copies the policy")  # fmt: skip
_add("STAGE.loss.clip_low and loss.clip_high", "epsilon", "clip_ratio", "cliprange", "clip_eps", "eps_clip")
_add("STAGE.loss.clip_low", "epsilon_low", "clip_ratio_low")
_add("STAGE.loss.clip_high", "epsilon_high", "clip_ratio_high")
_add("STAGE.loss.dual_clip", "delta", "clip_ratio_c")
_add("STAGE.loss.kind and loss.reduce", "loss_type", note="dapo is reduce: token_mean, dr_grpo constant_length")
_add(
    "STAGE.loss.kind",
    "importance_sampling_level",
    "loss_mode",
    note="grpo has a ratio a token, gspo a ratio a sequence",
)
_add("STAGE.loss.reduce", "loss_agg_mode", note="token-mean is token_mean, seq-mean-token-mean sequence_mean")
_add("STAGE.loss.entropy_coef", "entropy_coeff", "entropy_bonus", "ent_coef")
_add("STAGE.advantage.scale", "scale_rewards", "norm_adv_by_std_in_grpo", note="group, batch or none")
_add("STAGE.advantage.baseline", "adv_estimator", note="rloo is leave_one_out; or take a preset of configs/objectives/")
_add("STAGE.importance_sampling", "vllm_importance_sampling_correction", "vllm_importance_sampling_mode", "rollout_is",
     "use_tis", note="as in {mode: truncate, high: 2.0}")  # fmt: skip
_add("STAGE.importance_sampling.high", "vllm_importance_sampling_cap", "rollout_is_threshold", "tis_imp_ratio_cap")
_add("STAGE.dynamic_sampling", "filter_groups", "dynamic_sample", note="as in {reward: accuracy}")
_add("STAGE.dynamic_sampling.max_batches", "max_num_gen_batches")
_add("STAGE.value.gae_lambda", "lam", "gae_lam", "lambd")
_add("evaluate.samples", "val_kwargs.n", "num_eval_samples")
_add("evaluate.problems", "max_eval_samples", "num_eval_problems", "val_batch_size")

# Keys without an equivalent, and why there is none.
NEEDLESS: dict[str, str] = {
    "logging_steps": "every step is logged",
    "logging_strategy": "every step is logged",
    "log_every": "every step is logged",
    "resume_from_checkpoint": "the same command resumes from the last checkpoint",
    "overwrite_output_dir": "the same command resumes from the last checkpoint; choose another run_dir to start again",
    "use_vllm": "r1jax samples by itself, on the devices that it trains on",
    "vllm_mode": "r1jax samples by itself, on the devices that it trains on",
    "gpu_memory_utilization": "r1jax samples by itself, on the devices that it trains on",
    "per_device_eval_batch_size": "evaluation takes as many sequences at once as training",
    "gamma": "the discount is 1",
    "cliprange_value": "a value may move by 0.2 in a rollout's updates",
    "adam_beta1": "b1 is 0.9",
    "beta1": "b1 is 0.9",
    "attn_implementation": "there is one attention",
    "disable_dropout": "there is no dropout",
    "ref_model_mixup_alpha": "a sync copies the policy; set kl.sync_reference_every",
}
