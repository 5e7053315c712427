"""Leakage: which cuts and defences give most away, predicted in seconds without an attack."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("leakage")
