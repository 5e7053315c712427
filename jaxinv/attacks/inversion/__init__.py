"""Optimisation in pixels: objectives, solvers, priors, and the loop that runs them."""
