"""The one exception that Regard raises for what a user can mend, and the likeliest cure of a wrong name."""

import difflib
from collections.abc import Iterable


class Problem(ValueError):  # noqa: N818 - it names what went wrong, not a kind of error
    """Something a user can mend: the message names the cause, then the cure, in one paragraph.

    The command line prints it without a traceback and exits with 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that proposes the likeliest meant of the known names, or nothing."""
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"Did you mean '{close[0]}'? " if close else ""
