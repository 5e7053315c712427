"""Attackers who know the edge and its parameters."""
