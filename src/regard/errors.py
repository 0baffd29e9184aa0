"""The one exception that Regard raises for what a user can mend."""


class Problem(ValueError):
    """Something a user can mend: the message names the cause, then the cure, in one paragraph.

    The command line prints it without a traceback and exits with 2.
    """
