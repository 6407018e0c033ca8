"""Fifteen ways in which models give a final answer; a formula has {a} for it, and with separators a number has {s}."""

STYLES = {
    "boxed": r"\boxed{{{a}}}",
    "boxed in a sentence": r"<think>so</think>That makes $\boxed{{{a}}}$ in all.",
    "answer tag": "<think>3 + 4</think><answer>{a}</answer>",
    "box in the tag": "<think>so</think>\n<answer>\n\\[ \\boxed{{{a}}} \\]\n</answer>",
    "sentence in the tag": "<think>so</think><answer>The answer is ${a}$.</answer>",
    "hashes": "He pays 3 + 4.\n#### {a}",
    "the answer is": "It is not 17. The answer is ${a}$.",
    "the final answer is": "The final answer is: ${a}$. I hope it is correct.",
    "bold": "**Answer:** ${a}$",
    "heading": "**Final Answer**\n\n\\[ \\boxed{{{a}}} \\]",
    "plain text": "First 17.\n\nAnswer: {a}",
    "parentheses": r"Therefore, the answer is \({a}\).",
    "after an abandoned box": "\\boxed{{17}}? Wait, that is wrong.\n\nWe get $\\boxed{{{a}}}$.",
    "before an invented turn": "\\boxed{{{a}}}\n\nUser: And 9 + 8?\nAssistant: \\boxed{{17}}",
    "last formula": "We add 3 and 4. Hence\n\n$${a}$$",
}
