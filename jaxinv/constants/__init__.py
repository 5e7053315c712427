"""Numbers and names that need no JAX: what the paper prints, limits, threat models."""
