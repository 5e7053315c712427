"""Report: one HTML page of all that runs have found, and its figures."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("report")
