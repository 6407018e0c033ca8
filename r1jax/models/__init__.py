"""Flax Linen decoders, one file a family. A parameter's name ends in its letters: `q_DNH` is [D, N, H]."""
