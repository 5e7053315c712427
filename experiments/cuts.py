"""Cuts of a network: where it can be split, what crosses there, and what the edge computes."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("cuts")
