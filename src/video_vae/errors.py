"""The error that users read, and the exit statuses that programs agree on."""

TIME_UP_STATUS = 75
"""Exit status of a training that saved itself because its time was up (EX_TEMPFAIL: start again to go on)."""


class UserError(Exception):
    """State in one line what is wrong and how to fix it; the command line shows it without a traceback."""


def one_line(text: str) -> str:
    """Keep a text on one line, with escapes for control characters."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
