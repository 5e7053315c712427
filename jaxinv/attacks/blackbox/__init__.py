"""Attackers who may query the release."""
