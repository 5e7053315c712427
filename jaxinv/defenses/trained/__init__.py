"""Defenses that are trained in: each module tells its source and its equation."""
