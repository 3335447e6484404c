"""Running something in a process in which nothing has happened yet: no provider, no telemetry.

The processes are forked from a server that has imported much and started nothing.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from otel_genapp import quiet

DEADLINE_S = 60.0

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([
    "fastapi", "otel_genapp.bootstrap.machinery", "otel_genapp.bootstrap.telemetry",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
])  # fmt: skip


def in_fresh_process(
    act: Callable[..., Any], *arguments: Any, own_errors: bool = False, deadline_s: float = DEADLINE_S
) -> Any:
    """What `act(*arguments)`, a function of a module, returns there; its failure fails the test.

    Own errors fail it too, unless they are expected.
    """
    ours, theirs = _context.Pipe()
    process = _context.Process(target=_run, args=(theirs, act, arguments, own_errors))
    process.start()
    theirs.close()
    try:
        assert ours.poll(deadline_s), "the process did not answer"
        try:
            failure, result = ours.recv()
        except EOFError:
            process.join(DEADLINE_S)
            raise AssertionError(f"the process died: {process.exitcode}") from None
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()
    assert not failure, failure
    return result


def _run(pipe: Connection, act: Callable[..., Any], arguments: Any, own_errors: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="genapp", ignore_cleanup_errors=True) as folder:
        os.environ["XDG_STATE_HOME"] = folder  # the server has that of the first test
        _run_alone(pipe, act, arguments, own_errors)


def _run_alone(pipe: Connection, act: Callable[..., Any], arguments: Any, own_errors: bool) -> None:
    warnings.simplefilter("error")
    logging.getLogger().addHandler(logging.NullHandler())
    seen: list[str] = []
    if not own_errors:
        quiet.observe(
            lambda site, error: seen.append(f"{site}: {''.join(traceback.format_exception(error))}")
        )
    failure, result = "", None
    try:
        result = act(*arguments)
    except BaseException:
        failure = traceback.format_exc()
        raise
    finally:
        if seen:
            failure += "\n".join(["own errors:", *seen])
        pipe.send((failure, result))
        pipe.close()
