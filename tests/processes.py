"""Run a function on several ranks: real processes that join as those of torchrun do."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from edge_pruning import ranks

CONTEXT = multiprocessing.get_context("forkserver")  # imports once, and forks before anything has run
CONTEXT.set_forkserver_preload(["edge_pruning.runs", "torch.distributed", "transformers", "random_models"])


def on_ranks(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What the function returns on every rank; the name of the error where it raises one, None where a rank died."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(count):
        here, there = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_rank, args=(rank, count, port, there, function, arguments))
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
        "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    torch.set_num_threads(1)
    ranks.join()
    try:
        to.send(function(*arguments))
    except Exception as error:
        to.send(type(error).__name__)
        raise
