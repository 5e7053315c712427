"""White-box attack: the cloud knows the edge's layers and weights, and inverts what it receives."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("whitebox")
