"""The one error that is meant for a person to read."""


class UserError(Exception):
    """Say in one line what is wrong and how to mend it; the command line shows it without a traceback."""
