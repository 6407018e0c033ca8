"""r1jax: train reasoning models the way DeepSeek-R1 was trained, in JAX."""
