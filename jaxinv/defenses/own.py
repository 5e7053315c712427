"""Mechanisms of a user's own, from a Python file or module. JAX."""

import dataclasses

from jaxinv.defenses.catalog import MECHANISMS
from jaxinv.defenses.mechanism import Mechanism
from jaxinv.errors import UsageError
from jaxinv.machine import own_code


def load(spelling: str) -> Mechanism:
    """Loads a mechanism, a value of a file or module.

    Args:
      spelling: `FILE.py:name` or `package.module:name`.

    Raises:
      UserError: there is none of that name, its code fails, or it has the name of another.
    """
    file, name = own_code.place("defense", spelling, "mechanism")
    found, code = own_code.value(
        "defense",
        spelling,
        file,
        name,
        accepts=lambda value: isinstance(value, Mechanism),
        what="mechanism",
    )
    taken = (*MECHANISMS, "clip", "none")
    if found.name in taken or not found.name.isidentifier():
        raise UsageError(
            f"defense={spelling}: its name is {found.name!r}; expected letters, digits and _, and "
            f"none of {', '.join(taken)}."
        )
    return dataclasses.replace(found, code=own_code.digest(code))
