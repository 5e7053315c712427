"""Partition: where to split a network and which defence to add, by cost and leakage."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("partition")
