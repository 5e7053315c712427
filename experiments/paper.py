"""The paper: every table and figure of He, Zhang & Lee (2021), made again and beside ours."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("paper")
