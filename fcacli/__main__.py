"""`python -m fcacli`: what a launcher of many processes runs."""

import os
import signal

AMONG_OTHERS = __name__ == "__main__" and "RANK" in os.environ
if AMONG_OTHERS:  # Ctrl-C ends it without a word until there is something to end in order; the launcher says it
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from fcacli.cli.app import main  # noqa: E402
from fcacli.workflows.ranks import end_among_others  # noqa: E402

if __name__ == "__main__":
    if AMONG_OTHERS:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with end_among_others():
        main()
