"""Speed of attacks: throughput, compile and run time, memory, and share of the device's peak."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("benchmark")
