"""Mechanisms that act on the release alone."""
