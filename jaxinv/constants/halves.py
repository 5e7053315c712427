"""Halves of the test split: choices are made on one, and reported on the other."""

ALL = "all"
"""All of the test split."""

CHOICE = "choice"
"""The first half, rounded down."""

REPORT = "report"
"""The rest, which no choice has seen."""

HALVES = (ALL, CHOICE, REPORT)
