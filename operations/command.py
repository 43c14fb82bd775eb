"""What the operations of the `dcgan` command share: their exit code, and one sentence where they fail."""

import sys
from collections.abc import Callable

from dcgan.errors import DcganError, failure

DONE, FAILED, INTERRUPTED = 0, 1, 130


def run_operation(body: Callable[[], bool | None], after_interrupt: str = "") -> int:
    """Run the body of an operation and return the exit code.

    Args:
        body: Raises a failure, about which one sentence is printed; or has printed it, and returns False.
        after_interrupt: A sentence that is printed after Ctrl-C has ended it.
    """
    try:
        return FAILED if body() is False else DONE
    except (DcganError, OSError) as error:
        sys.stderr.write(f"error: {failure(error)}\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write(f"Interrupted. {after_interrupt}".rstrip() + "\n")
        return INTERRUPTED


def print_line(line: object) -> None:
    """Print a line of an operation's result, also into a pipe at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
