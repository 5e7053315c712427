"""Tables: runs what tables show, and writes them in Markdown, with the command of each."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("tables")
