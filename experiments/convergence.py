"""Convergence of the white-box methods: PSNR and misfit against iterations and against seconds."""

from jaxinv.studies import cli

if __name__ == "__main__":
    cli.main("convergence")
