"""What a user's mistake raises. Scripts print the message as one line and exit with `exit_code`."""


class UserError(Exception):
    """Something the user can mend: missing data, a file of another model, an unwritable folder."""

    exit_code = 1


class UsageError(UserError):
    """A flag's value is not allowed. The message names the flag, the value and what is allowed."""

    exit_code = 2
