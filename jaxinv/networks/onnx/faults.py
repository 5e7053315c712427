"""Faults of a file, in one line that says where they are."""

import contextlib
from collections.abc import Iterator

from jaxinv.errors import UserError


@contextlib.contextmanager
def naming(whose: str) -> Iterator[None]:
    """Puts in front of every fault whose it is, and makes one line of it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{whose}: {error}") from error
    except RecursionError as error:
        raise UserError(f"{whose}: nested too deep.") from error
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"{whose}: {lines[0][:300] if lines else type(error).__name__}") from error
