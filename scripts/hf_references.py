"""References for the tests from torch and transformers: tiny models with their logits, and SmolLM2's greedy answers.

It needs an environment of its own, since r1jax does not depend on torch: `pip install torch transformers jinja2`
(written with transformers 5.24).

    python scripts/hf_references.py tiny tests/references
    python scripts/hf_references.py check EXPORTED tests/references/llama
    python scripts/hf_references.py smollm2 SMOLLM2 gsm8k/test.jsonl tests/references/smollm2_gsm8k.npz
    python scripts/hf_references.py gsm8k SMOLLM2 gsm8k/test.jsonl answers.jsonl

On a busy machine set OMP_WAIT_POLICY=passive: with threads that spin, torch was up to 80 times slower.

Letters: B sequences, T positions, V vocabulary.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GenerationConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

LENGTH = 90
PACKED = (37, 53)  # two sequences in one row
PADDED = (48, 31, 7)  # rows of different lengths
# An epsilon so large that a reader who takes the default fails.
SHAPE = {
    "num_hidden_layers": 2,
    "vocab_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-3,
}
STOPS = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 128}
# Heads of 16 where the width would give 4, so that a reader of config.json who derives them fails.
NARROW = SHAPE | STOPS | {"hidden_size": 16, "head_dim": 16, "intermediate_size": 40}
QWEN2 = SHAPE | STOPS | {"hidden_size": 32, "intermediate_size": 24, "tie_word_embeddings": True}
# With theta 500 and 32 positions the llama3 bands (kept, blended, divided) hold 1, 2 and 5 of the 8 frequencies.
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 3000.0, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA = LlamaConfig(**NARROW, rope_parameters=LLAMA3, tie_word_embeddings=False)
QWEN3 = Qwen3Config(**NARROW, rope_parameters={"rope_type": "default", "rope_theta": 2000.0}, tie_word_embeddings=False)


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Weights with which every tensor matters: logits of std about 1.5, norms not 1, biases not 0."""
    generator = torch.Generator().manual_seed(seed)
    width = model.config.hidden_size
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("norm.weight"):
                weight.copy_(1 + 0.2 * noise)
            elif name.endswith(".bias"):
                weight.copy_(0.5 * noise)
            elif "embed_tokens" in name or "lm_head" in name:
                weight.copy_(noise * 1.5 / width**0.5)
            else:
                weight.copy_(noise / weight.shape[1] ** 0.5)


def load(folder: Path, attention: str = "eager"):
    """The folder's model in float32, with the plainest attention unless another is asked for."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).eval()


@torch.no_grad()
def logits_of(model, tokens_BT: np.ndarray) -> np.ndarray:
    return model(torch.from_numpy(tokens_BT).long(), use_cache=False).logits.numpy()


@torch.no_grad()
def cached_logits(model, tokens_BT: np.ndarray) -> np.ndarray:
    """Logits of a prefill of the first half and of one token at a time after it."""
    ids, half, cache = torch.from_numpy(tokens_BT).long(), tokens_BT.shape[1] // 2, DynamicCache(config=model.config)
    parts = [model(ids[:, :half], past_key_values=cache, use_cache=True).logits]
    for t in range(half, ids.shape[1]):
        parts.append(model(ids[:, t : t + 1], past_key_values=cache, use_cache=True).logits)
    return torch.cat(parts, 1).numpy()


def reference(model, seed: int, ids: int, whole: bool) -> dict[str, np.ndarray]:
    """Random tokens below `ids` and their logits; `whole`: also packed, padded and through the cache."""
    rng = np.random.default_rng(seed)
    tokens_BT = rng.integers(ids, size=(2, LENGTH), dtype=np.int32)
    arrays = {"tokens": tokens_BT, "logits": logits_of(model, tokens_BT)}
    if not whole:
        return arrays
    packed = [rng.integers(ids, size=(1, n), dtype=np.int32) for n in PACKED]
    padded_BT = np.zeros((len(PADDED), max(PADDED)), np.int32)
    padded_BTV = np.zeros((*padded_BT.shape, model.config.vocab_size), np.float32)
    for row, n in enumerate(PADDED):
        padded_BT[row, :n] = rng.integers(ids, size=n)
        padded_BTV[row, :n] = logits_of(model, padded_BT[row : row + 1, :n])[0]
    return arrays | {
        "packed_tokens": np.concatenate(packed, 1),
        "packed_segments": np.repeat(np.arange(1, len(PACKED) + 1, dtype=np.int32), PACKED)[None],
        "packed_positions": np.concatenate([np.arange(n, dtype=np.int32) for n in PACKED])[None],
        "packed_logits": np.concatenate([logits_of(model, t) for t in packed], 1),
        "padded_tokens": padded_BT,
        "lengths": np.array(PADDED, np.int32),
        "padded_logits": padded_BTV,
        "cached_logits": cached_logits(model, tokens_BT[:1]),
    }


def tiny(out: Path) -> None:
    """Writes each tiny model as a Hugging Face folder with its reference.npz."""
    models = (  # name, seed, config, dtype, ids that occur, stop ids
        ("llama", 1, LLAMA, torch.float32, 96, [2, 7]),
        ("llama_linear", 2, LlamaConfig(**NARROW, rope_parameters=LINEAR, tie_word_embeddings=True),
         torch.float32, 96, 2),
        ("qwen2", 3, Qwen2Config(**QWEN2, rope_parameters={"rope_type": "default", "rope_theta": 1000.0}),
         torch.float32, 80, [2, 3]),
        ("qwen3", 4, QWEN3, torch.float32, 96, [2, 3]),
        ("yarn", 5, Qwen2Config(**QWEN2, rope_parameters=YARN), torch.float32, 96, 2),
        ("llama_bf16", 6, LLAMA, torch.bfloat16, 96, 2),
        ("llama_f16", 7, LLAMA, torch.float16, 96, 2),
    )  # fmt: skip
    for name, seed, config, dtype, ids, stops in models:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        randomise(model, seed)
        model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=stops)
        model.to(dtype).save_pretrained(out / name)
        if name == "qwen3":
            model.save_pretrained(out / "qwen3_sharded", max_shard_size="20KB")
        arrays = reference(load(out / name), seed, ids, whole=dtype == torch.float32)
        np.savez_compressed(out / name / "reference.npz", **arrays)
        print(f"{name}: std of the logits {arrays['logits'].std():.2f}")


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal in every byte (-0 is not 0), or of different dtypes and equal in shape alone."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return a.shape == b.shape
    return torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def check(folder: Path, original: Path) -> None:
    """Fails unless transformers reads the same model from both folders."""
    ours, theirs = tensors(folder), tensors(original)
    if ours.keys() != theirs.keys():
        raise SystemExit(f"tensors in one folder alone: {sorted(ours.keys() ^ theirs.keys())}")
    if differ := [name for name in ours if not same(ours[name], theirs[name])]:
        raise SystemExit(f"tensors that differ: {differ}")
    same_dtype = all(ours[name].dtype == theirs[name].dtype for name in ours)
    saved = np.load(original / "reference.npz")
    logits_BTV = logits_of(load(folder), saved["tokens"])
    # The saved logits may be another machine's; only those computed here must agree in every bit.
    exact = np.array_equal(logits_BTV, logits_of(load(original), saved["tokens"]))
    difference = np.abs(logits_BTV - saved["logits"]).max()
    bytes_equal = "bytes equal" if same_dtype else "dtypes differ"
    print(f"{len(ours)} tensors, {bytes_equal}; logits differ from the saved by {difference:.2e}, "
          f"from the original's here by {'nothing' if exact else 'something'}")  # fmt: skip
    if not difference <= 1e-5 or (same_dtype and not exact):  # NaN fails too
        raise SystemExit("the logits differ")


def gsm8k_prompts(tokenizer, file: Path, limit: int | None) -> list[list[int]]:
    """Each question alone as the user's message, through the chat template."""
    questions = [json.loads(line)["question"] for line in file.open(encoding="utf-8")][:limit]
    chats = [[{"role": "user", "content": question}] for question in questions]
    return [tokenizer.apply_chat_template(c, add_generation_prompt=True, return_dict=True)["input_ids"] for c in chats]


def smollm2(folder: Path, file: Path, out: Path, questions: int = 20, new: int = 64) -> None:
    """Greedy completions of the first questions with each token's log-prob, one prompt at a time."""
    model, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    prompts = gsm8k_prompts(tokenizer, file, questions)
    prompt_BT = np.full((len(prompts), max(map(len, prompts))), -1, np.int32)
    completion_BT = np.full((len(prompts), new), -1, np.int32)
    logp_BT, margin_BT = np.zeros((2, len(prompts), new), np.float32)
    for row, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        result = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new,
                                output_logits=True, return_dict_in_generate=True)  # fmt: skip
        logits_TV = torch.cat(result.logits)
        completion = result.sequences[0, len(prompt) :]
        n = len(completion)
        prompt_BT[row, : len(prompt)] = prompt
        completion_BT[row, :n] = completion
        logp_BT[row, :n] = logits_TV.log_softmax(-1).gather(1, completion[:, None])[:, 0]
        best = logits_TV.topk(2).values
        margin_BT[row, :n] = best[:, 0] - best[:, 1]
        print(f"{row}: {n} tokens, least margin {margin_BT[row, :n].min():.4f}", flush=True)
    np.savez_compressed(
        out,
        prompt_ids=prompt_BT,
        prompt_lengths=(prompt_BT >= 0).sum(1, dtype=np.int32),
        completion_ids=completion_BT,
        completion_lengths=(completion_BT >= 0).sum(1, dtype=np.int32),
        logps=logp_BT,
        margins=margin_BT,
    )


def gsm8k(folder: Path, file: Path, out: Path, new: int, batch: int, limit: int | None, like: Path | None) -> None:
    """Greedy answers to every question, as lines {index, completion, tokens}; started again, it continues.

    `like` are transcripts of `r1jax eval` on the same questions: a batch ends with its longest answer, so those that
    are expected to be of like length go together.
    """
    model, tokenizer = load(folder, "sdpa"), AutoTokenizer.from_pretrained(folder, padding_side="left")
    prompts = gsm8k_prompts(tokenizer, file, limit)
    # A kill may leave half a line, and so a question to be asked again.
    lines = [line for line in out.read_text().splitlines(True) if line.endswith("\n")] if out.exists() else []
    out.write_text("".join(lines))
    done = {json.loads(line)["index"] for line in lines}
    expected = [json.loads(line)["length"] for line in like.open()] if like else [0] * len(prompts)
    todo = sorted((i for i in range(len(prompts)) if i not in done), key=lambda i: (expected[i], len(prompts[i])))
    start = time.time()
    with out.open("a") as answers:
        for at in range(0, len(todo), batch):
            indices = todo[at : at + batch]
            inputs = tokenizer.pad({"input_ids": [prompts[i] for i in indices]}, return_tensors="pt")
            ids = model.generate(**inputs, do_sample=False, max_new_tokens=new)[:, inputs["input_ids"].shape[1] :]
            for index, completion in zip(indices, ids.tolist(), strict=True):
                # The stop id is also the pad id: up to and with the first.
                stop = completion.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in completion else new
                text = tokenizer.decode(completion[:stop], skip_special_tokens=True)
                answers.write(json.dumps({"index": index, "completion": text, "tokens": stop}) + "\n")
            answers.flush()
            print(f"{len(done) + at + len(indices)}/{len(prompts)} after {time.time() - start:.0f} s", flush=True)
    in_order = sorted(out.read_text().splitlines(True), key=lambda line: json.loads(line)["index"])
    out.write_text("".join(in_order))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    positionals = {"tiny": ["out"], "check": ["folder", "original"], "smollm2": ["folder", "file", "out"],
                   "gsm8k": ["folder", "file", "out"]}  # fmt: skip
    commands = {verb: verbs.add_parser(verb) for verb in positionals}
    for verb, names in positionals.items():
        for name in names:
            commands[verb].add_argument(name, type=Path)
    commands["gsm8k"].add_argument("--max-new", type=int, default=256, dest="new")
    commands["gsm8k"].add_argument("--batch", type=int, default=32)
    commands["gsm8k"].add_argument("--limit", type=int, help="the first questions alone")
    commands["gsm8k"].add_argument("--like", type=Path, help="transcripts of r1jax eval: saves waiting")
    arguments = vars(parser.parse_args())
    {"tiny": tiny, "check": check, "smollm2": smollm2, "gsm8k": gsm8k}[arguments.pop("verb")](**arguments)


if __name__ == "__main__":
    main()
