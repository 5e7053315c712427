"""The machine of a run: devices, processes that share the work, progress, facts, source."""
