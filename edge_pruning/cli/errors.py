"""Errors for users: one message on stderr and exit code 2, no traceback. Ctrl-C and SIGTERM are handled alike.

Expected problems (a bad setting, a broken file, a full disk, a loss that is not finite, too little memory) are raised
as ValueError, OSError, Diverged or OutOfMemory. Any other exception is a bug in this library and keeps its traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edge_pruning import ranks

UNEXPECTED, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM."""


def raise_on_sigterm() -> None:
    """Make SIGTERM raise an exception, as Ctrl-C does, so that locks are released and a message is printed."""

    def terminate(*_: Any) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


@contextmanager
def errors_reported(*, kept: Callable[[], str] | None = None) -> Iterator[None]:
    """Print an error and exit. kept: returns the message for a user who interrupts the command."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        how, code = ("terminated", TERMINATED) if isinstance(interrupt, Terminated) else ("interrupted", INTERRUPTED)
        _exit(f"{how}. {kept()}" if kept else how, code)
    except Exception as error:
        if not ranks.speaks_of_failure():
            raise SystemExit(BAD_INPUT if _is_expected(error) else UNEXPECTED) from None
        if not _is_expected(error):
            raise
        _exit(f"error: {_words(error)}", BAD_INPUT)


def _is_expected(error: Exception) -> bool:
    """Return whether the user or the machine caused the error. Heavy modules are imported only if needed."""
    if isinstance(error, (ValueError, OSError)):
        return True
    from edge_pruning.discovery.search import Diverged
    from edge_pruning.masked_pass.micro_batches import OutOfMemory

    return isinstance(error, (Diverged, OutOfMemory))


def _words(error: Exception) -> str:
    """Return the message of an error, without the error number of an OSError."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error)


def _exit(message: str, code: int) -> None:
    sys.stdout.flush()
    if code == BAD_INPUT or ranks.is_first():
        print(message, file=sys.stderr)
    raise SystemExit(code)
