"""What a user's mistake raises. Scripts print the message as one line and exit with `exit_code`."""


class UserError(Exception):
    """Something the user can mend: missing data, a file of another model, an unwritable folder."""

    exit_code = 1


class DamagedError(UserError):
    """A file or folder does not hold what was written to it; `why` tells in what way."""

    def __init__(self, path: object, why: str):
        super().__init__(f"{path}: {why}.")
        self.path, self.why = path, why


class UsageError(UserError):
    """A flag's value is not allowed. The message names the flag, the value and what is allowed."""

    exit_code = 2
