"""Rewards: functions `(example, completion) → float`, or None where a completion could not be scored.

The completion is the text before the stop token. No reward evaluates the model's text in this process.
"""
