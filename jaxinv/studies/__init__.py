"""Experiments: from a configuration to records."""
