"""A model that answers: completions of prompts, chat, and log-probs of given completions.

    generator = Generator(load_model("runs/quickstart"))
    generator.generate("347+285=", samples=4, temperature=1.0)  # texts

Letters: B sequences, T completion positions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from r1jax.config.base import ConfigError, user_errors
from r1jax.config.sampling import SamplingSettings
from r1jax.data.batches import padded
from r1jax.models import Model
from r1jax.parallel.mesh import own_rows, row_shards, sharding, to_global, to_host
from r1jax.parallel.processes import check_agreement
from r1jax.rl.logprobs import completion_log_probs
from r1jax.rl.rollout import completion_texts
from r1jax.rl.types import TrainBatch
from r1jax.run.loading import Loaded
from r1jax.text.prompt import Question, encode_prompt, make_prompt, with_stop

GREEDY = SamplingSettings(temperature=0.0)
NARROWEST = 16  # tokens; widths are powers of two from here on, so that few shapes are compiled


class Generator:
    """A loaded model with its prompt format. Questions are texts, or chat messages as lists of role and content."""

    def __init__(self, loaded: Loaded) -> None:
        self.model, self.config, self.name = loaded.model, loaded.config, loaded.name
        with self.model.devices():
            self._weights = self.model.sampling_weights()

    def prompt(self, question: Question, *, chat: bool | None = None) -> str:
        """The text that the model continues, in its prompt format; `chat` True means its chat template alone."""
        settings = self.config.prompt
        if chat is not None:
            settings = settings.model_copy(update={"chat": chat, "template": "plain"})
            if not chat:
                settings = settings.model_copy(update={"chat_template_kwargs": {}})
        with user_errors():
            return make_prompt(question, settings, self.model.tokenizer)[0]

    def generate(
        self,
        question: Question,
        *,
        samples: int = 1,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        max_tokens: int | None = None,
        seed: int = 0,
    ) -> list[str]:
        """Completions of a question. `temperature` None is greedy for one sample, and 1 for several."""
        if temperature is None:
            temperature = float(samples > 1)
        with user_errors():
            sampling = SamplingSettings(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        in_chat = self.config.prompt.chat
        text = self.prompt(question)
        return self.complete(text, sampling, samples=samples, max_tokens=max_tokens, seed=seed, in_chat=in_chat)

    def chat(
        self,
        messages: Sequence[dict[str, str]],
        *,
        temperature: float = 0.7,
        max_tokens: int | None = None,
        seed: int = 0,
    ) -> str:
        """The model's reply to chat messages, through its chat template."""
        text = self.prompt(list(messages), chat=True)
        sampling = SamplingSettings(temperature=temperature)
        (reply,) = self.complete(text, sampling, max_tokens=max_tokens, seed=seed + len(messages), in_chat=True)
        return reply

    def complete(
        self,
        text: str,
        sampling: SamplingSettings = GREEDY,
        *,
        samples: int = 1,
        max_tokens: int | None = None,
        seed: int = 0,
        in_chat: bool = False,
    ) -> list[str]:
        """Completions of a text as it stands, up to `max_tokens` (None: the model's own max_completion_length).

        A start token is put in front, unless a chat template has made the text (`in_chat`).
        """
        model = self.model
        with user_errors():
            tokens = encode_prompt(model.tokenizer, text, in_chat=in_chat)
            check_agreement({"PROMPT": text, "the options": repr((sampling, samples, max_tokens, seed))})
        shards = row_shards(model.mesh)
        own = own_rows(model.mesh, shards)  # all rows are of the same prompt; the first answers are returned
        prompt_PS, length_P = padded([tokens] * len(own), _width(len(tokens)))
        max_new = max_tokens or self.config.max_completion_length
        sampler = model.sampler(sampling, group_size=samples, max_new=max_new)
        prompts = to_global(model.mesh, (prompt_PS, length_P, np.zeros(len(own), np.int32)), shards)
        with model.devices():
            sampled = sampler(self._weights, *prompts, jax.random.key(seed))
            return [str(text) for text in completion_texts(sampled, model.tokenizer, to_host)[:samples]]

    def log_probs(
        self, question: Question, completions: Sequence[str], *, temperature: float = 1.0
    ) -> list[np.ndarray]:
        """For each completion the float32 log-probs of its tokens and its stop token, by the trainer's own forward."""
        if not temperature > 0:
            raise ConfigError(f"temperature is {temperature:g}: log-probs are those of sampling; give one above 0")
        model = self.model
        with user_errors():
            in_chat = self.config.prompt.chat
            tokens = encode_prompt(model.tokenizer, self.prompt(question), in_chat=in_chat)
            ids = [with_stop(model.tokenizer, model.tokenizer.encode(text), in_chat=in_chat) for text in completions]
        rows = -(-len(ids) // row_shards(model.mesh)) * row_shards(model.mesh)
        filled = [ids[row % len(ids)] for row in own_rows(model.mesh, rows)]
        arrays = (*padded([tokens] * len(filled), _width(len(tokens))), *padded(filled, _width(max(map(len, ids)))))
        batch = TrainBatch(*to_global(model.mesh, arrays, rows))
        with model.devices():
            score = _scorer(model.model, model.mesh, temperature)  # pyright: ignore[reportArgumentType]
            logp_BT = to_host(score(model.weights, batch))
        return [logp_T[: len(tokens)].copy() for logp_T, tokens in zip(logp_BT, ids, strict=False)]


@functools.cache
def _scorer(model: Model, mesh: Mesh, temperature: float) -> Callable[[Any, TrainBatch], jax.Array]:
    """A jitted function (params, batch) → logp_BT."""

    def score(params: Any, batch: TrainBatch) -> jax.Array:
        return completion_log_probs(model, params, batch, temperature=temperature)[0]

    return jax.jit(score, out_shardings=sharding(mesh, "B"))


def _width(tokens: int) -> int:
    return max(NARROWEST, 1 << (tokens - 1).bit_length())
