"""Keys of TRL, verl and Hugging Face, and their equivalents here, for errors about keys that r1jax does not have."""

from __future__ import annotations

# Where a value goes: the keys that others have for it | a note. Where r1jax has no such setting ("-"), the note is the
# reason. Of verl's keys, which are nested, the table has the last part or two.
TABLE = """
run_dir: output_dir logging_dir default_local_dir run_name experiment_name
model.path: model_name_or_path model_name pretrained_model_name_or_path base_model
model.dtype: torch_dtype model_dtype bf16 fp16 | bfloat16 or float32
model.attention: attn_implementation | auto or plain
model.remat: gradient_checkpointing enable_gradient_checkpointing | true is remat: full
tokenizer: tokenizer_name tokenizer_name_or_path processing_class tokenizer_path
mesh.tensor: tensor_parallel_size tensor_model_parallel_size vllm_tensor_parallel_size tp_size
mesh.fsdp: fsdp_size
mesh.context: ulysses_sequence_parallel_size context_parallel_size cp_size
keep_checkpoints: save_total_limit max_to_keep max_actor_ckpt_to_keep
wandb_project: report_to project_name | metrics.jsonl and TensorBoard are always written
completions_every: log_completions rollout_data_dir | it counts steps
task: dataset_name dataset train_dataset dataset_path train_files | as in {jsonl: FILE}
task.test: eval_dataset val_files | the file of held-out problems
rewards: reward_funcs reward_functions reward_function custom_reward_function \
  | by name, each a weight or a definition such as {function: file.py:name}
rewards: reward_weights | by name, as in {accuracy: 1.0, format: 0.2}
prompt.system: system_prompt
prompt.chat: chat_template apply_chat_template | true or false; the tokenizer brings the template
max_prompt_length: max_prompt_len max_input_length prompt_length
max_completion_length: max_new_tokens max_tokens max_completion_len max_response_length response_length \
  generate_max_len max_tokens_to_generate
max_prompt_length and max_completion_length: max_seq_length max_seq_len max_length max_model_len
stages.NAME.teacher: teacher_model teacher_model_name_or_path teacher_path
stages.NAME.teacher_top_k: loss_top_k distill_topk
stages.NAME.group_size: num_generations rollout.n n_samples_per_prompt num_samples_per_prompt
stages.NAME.steps: max_steps total_training_steps num_steps train_steps | a step is a rollout with all its updates
stages.NAME.steps: num_train_epochs total_epochs num_epochs epochs num_episodes \
  | epochs are steps × prompts_per_step ÷ examples
stages.NAME.prompts_per_step: batch_size train_batch_size generation_batch_size rollout_batch_size per_step_batch_size \
  | a step has prompts_per_step × group_size completions
stages.NAME.microbatch: per_device_train_batch_size ppo_micro_batch_size_per_gpu micro_batch_size \
  micro_batch_size_per_gpu ppo_micro_batch_size | it counts sequences at once on each device
stages.NAME.microbatch: gradient_accumulation_steps | how often gradients are accumulated follows from it
stages.NAME.decode_batch: max_num_seqs vllm_max_num_seqs max_running_requests | it counts completions on each device
stages.NAME.minibatches: num_iterations ppo_epochs num_ppo_epochs steps_per_generation \
  | it counts the updates of a step, and each completion is in one of them
stages.NAME.minibatches: ppo_mini_batch_size mini_batch_size num_mini_batches \
  | it counts the updates of a step: completions ÷ mini-batch size
stages.NAME.pack_length: packing use_remove_padding use_dynamic_bsz | it is the length of a packed row
stages.NAME.eval_every: eval_steps test_freq eval_strategy evaluation_strategy eval_interval | it counts steps
stages.NAME.save_every: save_steps save_freq save_strategy save_interval | it counts steps
stages.NAME.truncated: mask_truncated_completions overlong_filter | as in truncated: mask
stages.NAME.optimizer.learning_rate: lr
stages.NAME.optimizer.warmup_updates: warmup_steps lr_warmup_steps num_warmup_steps | it counts updates
stages.NAME.optimizer.warmup_updates: warmup_ratio lr_warmup_steps_ratio \
  | it counts updates: the ratio × steps × minibatches
stages.NAME.optimizer.schedule: lr_scheduler_type lr_schedule lr_decay_style warmup_style
stages.NAME.optimizer.min_lr_ratio: min_lr min_lr_rate | a fraction of learning_rate
stages.NAME.optimizer.b2: adam_beta2 beta2
stages.NAME.optimizer.b2: betas | b1 is 0.9
stages.NAME.optimizer.eps: adam_epsilon
stages.NAME.optimizer.max_grad_norm: grad_clip max_norm clip_grad gradient_clip_val
stages.NAME.kl.coef: beta | the beta of GKD is jsd_beta
stages.NAME.kl.coef: kl_coef init_kl_coef kl_loss_coef kl_beta
stages.NAME.kl.estimator: kl_loss_type kl_penalty kl_estimator
stages.NAME.kl.place: use_kl_loss use_kl_in_reward | loss or reward
stages.NAME.kl.sync_reference_every: ref_model_sync_steps sync_ref_model | it counts steps, and a sync copies the policy
stages.NAME.loss.clip_low and loss.clip_high: epsilon clip_ratio cliprange clip_eps eps_clip
stages.NAME.loss.clip_low: epsilon_low clip_ratio_low
stages.NAME.loss.clip_high: epsilon_high clip_ratio_high
stages.NAME.loss.dual_clip: delta clip_ratio_c
stages.NAME.loss.kind and loss.reduce: loss_type | dapo is reduce: token_mean, dr_grpo constant_length
stages.NAME.loss.kind: importance_sampling_level loss_mode | grpo has a ratio per token, gspo a ratio per sequence
stages.NAME.loss.reduce: loss_agg_mode | token-mean is token_mean, seq-mean-token-mean sequence_mean
stages.NAME.loss.entropy_coef: entropy_coeff entropy_bonus ent_coef
stages.NAME.advantage.scale: scale_rewards norm_adv_by_std_in_grpo | group, batch or none
stages.NAME.advantage.baseline: adv_estimator | rloo is leave_one_out; or take a preset of configs/objectives/
stages.NAME.importance_sampling: vllm_importance_sampling_correction vllm_importance_sampling_mode rollout_is use_tis \
  | as in {mode: truncate, high: 2.0}
stages.NAME.importance_sampling.high: vllm_importance_sampling_cap rollout_is_threshold tis_imp_ratio_cap
stages.NAME.dynamic_sampling: filter_groups dynamic_sample | as in {reward: accuracy}
stages.NAME.dynamic_sampling.max_batches: max_num_gen_batches
stages.NAME.value.gae_lambda: lam gae_lam lambd
evaluate.samples: val_kwargs.n num_eval_samples
evaluate.problems: max_eval_samples num_eval_problems val_batch_size
-: logging_steps logging_strategy log_every | every step is logged
-: resume_from_checkpoint | the same command resumes from the last checkpoint
-: overwrite_output_dir | the same command resumes from the last checkpoint; choose another run_dir to start again
-: use_vllm vllm_mode gpu_memory_utilization | r1jax samples by itself, on the devices that it trains on
evaluate.decode_batch: per_device_eval_batch_size eval_batch_size | it counts samples at once on each device
-: gamma | the discount is 1
-: cliprange_value | a value may move by 0.2 in a rollout's updates
-: adam_beta1 beta1 | b1 is 0.9
-: use_peft peft_config lora_r lora_alpha lora_dropout lora_rank lora_target_modules load_in_4bit load_in_8bit \
  | all parameters are trained, in float32; there is no LoRA
-: push_to_hub hub_model_id | r1jax export writes a folder; hf upload puts it on the hub
-: disable_dropout | there is no dropout
-: ref_model_mixup_alpha | a sync copies the policy; set kl.sync_reference_every
"""


def _read(table: str) -> dict[str, tuple[str, str]]:
    equivalents = {}
    for line in table.strip().split("\n"):
        place, _, rest = line.partition(": ")
        keys, _, note = rest.partition(" | ")
        equivalents |= dict.fromkeys(keys.split(), (place, note))
    return equivalents


EQUIVALENTS = _read(TABLE)  # by key: where its value goes, and the note
