"""The one exception that Regard raises for what a user can mend."""


class Problem(ValueError):  # noqa: N818 - it names what went wrong, not a kind of error
    """Something a user can mend: the message names the cause, then the cure, in one paragraph.

    The command line prints it without a traceback and exits with 2.
    """
