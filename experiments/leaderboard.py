"""Leaderboard: defences at equal accuracy, as their papers judge them and as we do."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("leaderboard")
