"""What may be meant by a key that no class of settings has: another library's, a misspelt one, one of another block."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from r1jax.config.annotations import places
from r1jax.config.equivalents import EQUIVALENTS, NEEDLESS
from r1jax.config.experiment import Config, GrpoStage, SftStage, Shared

CLOSE, NEAR = 0.8, 0.6  # similarities: surely a slip of the keyboard, and perhaps one
MOST_PLACES = 3  # that are named


def what_is_meant(
    tree: dict[str, Any], keys: Sequence[Any], value: Any, names: Sequence[str]
) -> tuple[Sequence[str], str]:
    """What the message about an unknown key says after that; `names` are the keys that its block has.

    The first of the pair are the keys below it which that is about.
    """
    key = str(keys[-1])
    near = difflib.get_close_matches(key, names, n=1, cutoff=NEAR)
    misspelt = f"did you mean {near[0]!r}?" if near else ""
    if hint := _equivalent(tree, keys, [key]):
        return (), hint
    if near and difflib.SequenceMatcher(None, near[0], key).ratio() >= CLOSE:
        return (), misspelt
    nested = list(_leaves(value))
    for below in nested:
        if hint := _equivalent(tree, keys, [key, *below]):
            return below, hint
    if hint := _elsewhere(tree, keys, key):
        return (), hint
    for below in filter(None, nested):
        if hint := _elsewhere(tree, keys, below[-1]):
            return below, hint
    return (), misspelt or f"valid keys here: {', '.join(names)}"


def _leaves(value: Any) -> list[list[str]]:
    """The paths below a key to what it holds; of what is no mapping, the empty one."""
    if not isinstance(value, dict) or not value:
        return [[]]
    return [[str(key), *path] for key, below in value.items() for path in _leaves(below)]


def _equivalent(tree: dict[str, Any], keys: Sequence[Any], path: Sequence[str]) -> str:
    """What r1jax has for another library's key, of which the last parts of the path are known."""
    for known in (".".join(path[i:]) for i in range(len(path))):
        if known in NEEDLESS:
            return f"r1jax has none, because {NEEDLESS[known]}"
        if known in EQUIVALENTS:
            to, note = EQUIVALENTS[known]
            stage = _stage(tree, keys, grpo=_is_grpo(to))
            return f"in r1jax it is {to.replace('STAGE', f'stages.{stage}')}{note and f' ({note})'}"
    return ""


def _is_grpo(place: str) -> bool:
    """Whether only a grpo stage has what STAGE.key... says."""
    stage, _, key = place.partition(".")
    return stage == "STAGE" and key.split(".")[0].split(" ")[0] not in SftStage.model_fields


def _elsewhere(tree: dict[str, Any], keys: Sequence[Any], name: str) -> str:
    """Where in the config a key of that name may stand."""
    top, of_stage = places(Config, name, leave_out=("stages",)), places(GrpoStage, name)
    if keys[0] != "stages":
        of_stage = places(GrpoStage, name, leave_out=Shared.model_fields)
    elif tree["stages"][keys[1]].get("program") == "sft":
        of_grpo, of_stage = of_stage, places(SftStage, name)
        if of_grpo and not of_stage and not top:
            return f"only stages of program grpo have {of_grpo[0]}"
    if keys[0] == "stages" and of_stage:
        top = []
    stage = _stage(tree, keys, grpo=bool(of_stage) and _is_grpo(f"STAGE.{of_stage[0]}"))
    found = ["the top level" if place == name else place for place in top]
    found += [f"stages.{stage}.{place}" for place in of_stage]
    return f"it belongs at {' or '.join(found[:MOST_PLACES])}" if found else ""


def _stage(tree: dict[str, Any], keys: Sequence[Any], *, grpo: bool) -> Any:
    """The name of the stage that a key is in, or of the first that may have what is meant, or NAME."""
    stages = tree.get("stages")
    stages = [stage if isinstance(stage, dict) else {} for stage in stages] if isinstance(stages, list) else []
    if keys[0] == "stages" and not (grpo and stages[keys[1]].get("program") == "sft"):
        return stages[keys[1]].get("name", keys[1])
    fitting = [stage for stage in stages if stage.get("program") == "grpo"] or ([] if grpo else stages)
    return fitting[0].get("name", stages.index(fitting[0])) if fitting else "NAME"
