"""The one exception that a user is meant to see, and the one that a signal raises."""


class FcaError(Exception):
    """A failure with a cause the user can act on.

    Args:
        message: what went wrong and why, one or two sentences, naming the file or option.
        hint: the next command to run or the thing to change; "" if there is none.
        code: exit status; 1 for a failure, 2 for misuse of an option.
    """

    def __init__(self, message: str, hint: str = "", code: int = 1):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


class Stopped(KeyboardInterrupt):
    """SIGTERM or the like, which unwinds what runs as Ctrl-C does; its argument is the signal's number."""


class Misuse(FcaError):
    """An option or argument that cannot be right whatever the files hold; exits with 2."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message, hint, code=2)
