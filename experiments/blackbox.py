"""Black-box attack: the cloud queries the edge with its own images, and learns to invert it."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("blackbox")
