"""Query-free attack: the cloud knows its own layers only, and may not query the edge."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("queryfree")
