"""A model that is ready to use: what sampling, evaluating and exporting need, and what training begins with.

model = LoadedModel(model, tokenizer, mesh, weights)
sampler = model.sampler(settings.evaluate, group_size=4, max_new=64)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from r1jax.config.sampling import SamplingSettings
from r1jax.models import Model, cast_for_sampling
from r1jax.parallel.jitted import Jitted
from r1jax.parallel.mesh import SAMPLE_WEIGHTS, Table, abstract_weights, sharding, weight_shardings
from r1jax.sampling.sampler import Samples, make_sampler
from r1jax.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """A model, its tokenizer, the mesh it is on and its weights, in the shardings of training."""

    model: Model
    tokenizer: Tokenizer
    mesh: Mesh
    weights: Any

    @contextlib.contextmanager
    def devices(self) -> Iterator[None]:
        """Computations inside happen on the mesh, with full-precision products where the model is float32."""
        precision = "float32" if self.model.config.dtype == "float32" else None
        with jax.set_mesh(self.mesh), jax.default_matmul_precision(precision):
            yield

    def sampler(self, settings: SamplingSettings, *, group_size: int, max_new: int) -> Callable[..., Samples]:
        """The jitted sampler for this model and its stop tokens; see `sampler.make_sampler`."""
        return make_sampler(
            self.model.clone(gather=False),  # pyright: ignore[reportArgumentType] (a Linen module is hashable where its fields are)
            self.mesh,
            stop_ids=self.tokenizer.stop_ids,
            group_size=group_size,
            max_new=max_new,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            min_p=settings.min_p,
            decode_batch=settings.decode_batch,
        )

    def rollout(self, settings: SamplingSettings, *, prompts: int, width: int, group_size: int, max_new: int) -> Jitted:
        """The sampler with its abstract arguments, for so many prompts padded to `width`; `weights` may be abstract."""
        rows, everywhere = sharding(self.mesh, "B"), sharding(self.mesh, "")
        token_PS = jax.ShapeDtypeStruct((prompts, width), jnp.int32, sharding=rows)
        number_P = jax.ShapeDtypeStruct((prompts,), jnp.int32, sharding=rows)
        key = jax.ShapeDtypeStruct((), jax.eval_shape(lambda: jax.random.key(0)).dtype, sharding=everywhere)
        sampler = self.sampler(settings, group_size=group_size, max_new=max_new)
        return Jitted(sampler, (self.abstract_sampling_weights(), token_PS, number_P, number_P, key))

    def sampling_weights(self, table: Table = SAMPLE_WEIGHTS) -> Any:
        """The weights in the type that they are used in, and in the shardings that decoding wants, or in others."""
        cast = self.cast(table)
        return cast(*cast.arguments)

    def cast(self, table: Table = SAMPLE_WEIGHTS) -> Jitted:
        """What makes `sampling_weights`."""
        shardings = weight_shardings(self.mesh, self.weights, table)
        cast = jax.jit(cast_for_sampling, static_argnums=1, out_shardings=shardings)
        return Jitted(cast, (self.weights, self.model.config.dtype))

    def abstract_sampling_weights(self, table: Table = SAMPLE_WEIGHTS) -> Any:
        """The shapes, types and shardings of `sampling_weights`; `weights` may be abstract too."""
        shapes = jax.eval_shape(lambda weights: cast_for_sampling(weights, self.model.config.dtype), self.weights)
        return abstract_weights(self.mesh, shapes, table)
