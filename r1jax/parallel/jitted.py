"""A jitted function together with the abstract arguments that it is called with.

update = Jitted(jax.jit(update_step, donate_argnums=0), (abstract_state, abstract_batch))
update.compile().memory_analysis()  # before there are any arrays
state, metrics = update(state, batch)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Jitted:
    """`arguments` are pytrees of jax.ShapeDtypeStruct with shardings, one for each positional argument."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def compile(self) -> jax.stages.Compiled:
        """Compiles the function for its abstract arguments; no array is made."""
        return self.function.lower(*self.arguments).compile()  # pyright: ignore[reportFunctionMemberAccess]


def abstract(tree: Any, shardings: Any) -> Any:
    """The shapes and types of a pytree's arrays, with `shardings`: one for all, or a pytree of them."""
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, tree)
    return jax.tree.map(lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree, shardings)
