"""Defences: the accuracy that each costs, and what attackers who know of it still reconstruct."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("defenses")
