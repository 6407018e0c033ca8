"""A small world of two languages, in which the stages of DeepSeek-R1 show their effects within minutes on a CPU.

    task = Bilingual(BilingualTask(name="bilingual", domains=["sums"], max_level=3), seed=0)
    task.example("train", 0).question  # " compute three and five less two?"

Questions are in English or German, and so should their reasoning be. Example.data has domain, language and level; a
general request's level is the number of nouns that it is about.
"""

from __future__ import annotations

import random

from r1jax.answers.extraction import after_reasoning
from r1jax.config.tasks import BilingualTask
from r1jax.rewards.example import Example, Reward, RewardResult
from r1jax.rewards.format import reasoning, strip_end, think_answer
from r1jax.tasks import demonstrations
from r1jax.tasks.puzzles import DayChain, Puzzle, SumChain
from r1jax.tasks.replies import Request, rule, sample_replies
from r1jax.tasks.split import Split, draw
from r1jax.tasks.vocabulary import SYMBOLS, WORDS, Code, fraction


class Bilingual:
    """Puzzles, or general requests, without end. A puzzle is the same problem in both languages, so that it is in the
    same split."""

    symbols = SYMBOLS

    def __init__(self, settings: BilingualTask, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.general = settings.domains == ["general"]
        self.rewards: dict[str, Reward] = {"accuracy": accuracy, "format": think_answer, "language": language}
        if self.general:
            self.rewards["rule"] = follows_rule

    def size(self, split: Split) -> None:
        """None: there is no end of problems."""

    def example(self, split: Split, index: int) -> Example:
        style = random.Random(f"{self.seed}/{split}/{index}/style")
        clean = self.settings.demonstrations == "clean"
        if self.general:
            request = self._request(split, index)
            write = demonstrations.clean_reply if clean else demonstrations.messy_reply
            nouns = {"verb": request.verb, "nouns": request.nouns}
            data = {"domain": "general", "language": request.language, "level": len(request.nouns)} | nouns
            return Example(request.question(), "", write(style, request), data | self._pair(split, index, request))
        puzzle, code = draw(split, self.seed, index, self._sample, lambda drawn: drawn[0].canonical())
        words, domain = WORDS[code], "sums" if isinstance(puzzle, SumChain) else "logic"
        demonstration = demonstrations.clean(puzzle, code) if clean else demonstrations.messy(style, puzzle, code)
        data = {"domain": domain, "language": code, "level": puzzle.level}
        return Example(puzzle.question(words), puzzle.answer(words), demonstration, data)

    def _pair(self, split: Split, index: int, request: Request) -> dict[str, str]:
        """Two replies to a request, in R1-Zero's format, of which the rule prefers one."""
        if self.settings.pairs is None:
            return {}
        rng, thought = random.Random(f"{self.seed}/{split}/{index}/pair"), request.thought(request.language)
        replies = sample_replies(rng, request, self.settings.pairs)
        return dict(zip(("chosen", "rejected"), (demonstrations.tagged(thought, r) for r in replies), strict=True))

    def _request(self, split: Split, index: int) -> Request:
        def sample(rng: random.Random) -> Request:
            return Request.sample(rng, rng.choice(self.settings.languages))

        return draw(split, self.seed, index, sample, Request.canonical)

    def _sample(self, rng: random.Random) -> tuple[Puzzle, Code]:
        level = rng.randint(self.settings.min_level, self.settings.max_level)
        kind = {"sums": SumChain, "logic": DayChain}[rng.choice(self.settings.domains)]
        return kind.sample(rng, level), rng.choice(self.settings.languages)


def accuracy(example: Example, completion: str) -> RewardResult:
    """1.0 where the answer is the gold word and nothing else, else 0.0; None for a request, which has no gold answer.

    The answer is in the last `<answer>` block, or without one it is the text after the reasoning.
    """
    if not example.answer:
        return None, "no_gold"
    return float(answer_of(example, completion) == example.answer)


def language(example: Example, completion: str) -> RewardResult:
    """The fraction of the reasoning's words that are in the question's language.

    No reasoning scores 0.0, and so does one without words, with the reasons no_reasoning and no_words.
    """
    thought = reasoning(strip_end(completion), example.prompt_opens_think)
    if thought is None or not thought.strip():
        return 0.0, "no_reasoning"
    share = fraction(thought, example.data["language"])
    return (0.0, "no_words") if share is None else share


def follows_rule(example: Example, completion: str) -> float:
    """How good a reply to a general request is, by `replies.rule`, from 0 to 1."""
    data = example.data
    reply = answer_of(example, completion)
    return rule(Request(data["verb"], tuple(data["nouns"]), data["language"]), reply) if reply else 0.0


def answer_of(example: Example, completion: str) -> str | None:
    """The content of the last `<answer>` block, or without one all text after the reasoning; None where it is open."""
    rest = after_reasoning(strip_end(completion), example.prompt_opens_think)
    _, opened, block = (rest or "").rpartition("<answer>")
    if rest is None or not opened:
        return rest and rest.strip()
    answer, closed, _ = block.partition("</answer>")
    return answer.strip() if closed else None
