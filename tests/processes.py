"""Real processes: the command, and a function on several ranks that join as those of torchrun do.

They are forked from a server that has imported torch and transformers, once for all tests.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

from edge_pruning import ranks

CONTEXT = multiprocessing.get_context("forkserver")  # imports once, and forks before anything has run
CONTEXT.set_forkserver_preload(["edge_pruning.runs", "torch.distributed", "transformers", "random_models"])


class Command:
    """`edge-pruning ARGUMENTS`, started in a folder. What it prints is in two files beside that folder."""

    def __init__(self, *arguments: object, folder: Path) -> None:
        self._printed = [folder.with_name(f"{folder.name}-{stream}.txt") for stream in ("stdout", "stderr")]
        self.process = CONTEXT.Process(target=_command, args=([str(word) for word in arguments], folder, self._printed))
        self.process.start()

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Raise AssertionError if the command ends before that."""
        while not happened():
            assert self.process.is_alive(), self.printed
            time.sleep(0.005)

    def ended_by(self, sent: signal.Signals) -> int:
        """Send a signal, and return the exit code; it is negative if the signal itself ended the process."""
        assert self.process.pid
        os.kill(self.process.pid, sent)
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode

    @property
    def printed(self) -> tuple[str, str]:
        """On stdout and stderr."""
        out, err = (path.read_text(encoding="utf-8") if path.exists() else "" for path in self._printed)
        return out, err


def _command(arguments: list[str], folder: Path, printed: list[Path]) -> None:
    from edge_pruning.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    for stream, path in zip((sys.stdout, sys.stderr), printed, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream.fileno())
    os.chdir(folder)
    torch.set_num_threads(1)
    sys.argv = ["edge-pruning", *arguments]
    main()


def on_ranks(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What the function returns on every rank; the name of the error where it raises one, None where a rank died."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # outlives the ranks, as torchrun's does
    started = []
    for rank in range(count):
        here, there = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_rank, args=(rank, count, store.port, there, function, arguments))
        process.start()
        there.close()
        started.append((process, here))
    results = [_received(here) for _, here in started]
    for process, _ in started:
        process.join(60)
    return results


def _received(connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        return None


def _rank(rank: int, count: int, port: int, to: Connection, function: Callable[..., Any], arguments: Any) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    torch.set_num_threads(1)
    ranks.join()
    try:
        to.send(function(*arguments))
    except Exception as error:
        to.send(type(error).__name__)
        raise
