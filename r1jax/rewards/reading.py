"""What a reward model reads: a question's prompt, then a response or the part of it that counts, then the stop token.

reading = Reading(tokenizer, stage.prompt, reads="summary", max_prompt_length=256, max_completion_length=512)
prompt, response = reading.ids("What is 1 + 1?", "<think>One more than one.</think>It is 2.")
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from r1jax.config.sampling import PromptSettings
from r1jax.rewards.example import Example
from r1jax.rewards.format import strip_end, summary
from r1jax.text.prompt import Question, encode_prompt, make_prompt, with_stop
from r1jax.text.tokenizer import Tokenizer
from r1jax.text.turns import continuation


@dataclass(frozen=True)
class Reading:
    """How a reward model reads, the same in training and as a reward."""

    tokenizer: Tokenizer
    prompt: PromptSettings
    _: KW_ONLY
    reads: Literal["summary", "everything"]
    max_prompt_length: int
    max_completion_length: int

    @property
    def width(self) -> int:
        """The most tokens of prompt and response."""
        return self.max_prompt_length + self.max_completion_length

    def ids(self, question: Question, response: str) -> tuple[list[int], list[int]] | None:
        """The ids of the prompt and of the response with its stop token; None where there is nothing to read.

        There is no summary where reasoning is not closed or nothing follows it. Raises ValueError for a text that the
        tokenizer does not cover.
        """
        text = strip_end(response)
        if self.reads == "summary":
            if not summary(response):
                return None
            text = text.rpartition("</think>")[2].lstrip("\n").rstrip()  # a space may be part of the first token
        if not text.strip():
            return None
        prompt, _ = make_prompt(question, self.prompt, self.tokenizer)
        target = continuation(text, prompt) if self.reads == "everything" else text
        in_chat = self.prompt.chat
        ids = with_stop(self.tokenizer, self.tokenizer.encode(target), in_chat=in_chat)
        return encode_prompt(self.tokenizer, prompt, in_chat=in_chat), ids

    def fits(self, prompt: list[int], response: list[int]) -> bool:
        """Whether both are within their limits."""
        return 0 < len(prompt) <= self.max_prompt_length and len(response) <= self.max_completion_length


def responses(example: Example) -> list[str]:
    """What a reward model is trained on: the better response and the worse one, or one with a label; else nothing."""
    data = example.data
    return [data["chosen"], data["rejected"]] if "chosen" in data else [data["response"]] if "label" in data else []
