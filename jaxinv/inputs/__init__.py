"""Datasets as arrays, from TFDS or embedded, decoded once and cached."""
