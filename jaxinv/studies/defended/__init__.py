"""Defenses judged: accuracy, and what is left to attackers, on the same releases."""
