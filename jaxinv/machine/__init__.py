"""Devices, processes that share the work, and progress: what a run computes on."""
