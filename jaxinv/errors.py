"""Errors for users. Scripts print the message as one line and exit with `exit_code`."""


class UserError(Exception):
    """A fault that the user can mend, such as missing data or a folder that cannot be written."""

    exit_code = 1


class DamagedError(UserError):
    """A file or folder is damaged; `why` says how."""

    def __init__(self, path: object, why: str):
        super().__init__(f"{path}: {why}.")
        self.path, self.why = path, why


class UsageError(UserError):
    """An argument's value is not allowed. The message begins with `argument=value: `."""

    exit_code = 2
