"""Where to split a network and which defence to add: what that costs, and what it still leaks."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("partition")
