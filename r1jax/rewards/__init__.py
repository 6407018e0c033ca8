"""Rewards by rule: `(example, completion) → float`, or None where a completion could not be graded.

The completion is text up to the stop token, without it. A reward never evaluates model text.
"""
