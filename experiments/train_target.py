"""Trains the target network of a dataset, which the attacks then split and invert."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("train_target")
