"""Attackers who know the cloud alone."""
