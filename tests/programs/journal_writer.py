"""A process that appends to a journal and says on stdout, outside the journal, what it did.

Run as `python -m tests.programs.journal_writer kills DIRECTORY SEED`, with writers forked from here,
each killed inside a write, or as `… full DIRECTORY` on a small disk, which is filled and emptied.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from otel_genapp.ledger.journal import RESERVE, Journal, Position
from otel_genapp.state_directory import StateDirectory

WRITERS_AT_ONCE = 4


def say(what: str) -> None:
    """One line, in one write: it is whole or not there."""
    os.write(1, f"{what}\n".encode())


def write_and_be_killed(state: StateDirectory, name: str) -> None:
    """Append some records; the kernel ends the process after some bytes of the last one, perhaps all."""
    chance = random.Random(name)  # noqa: S311 - repeatable on purpose
    write, whole = os.write, chance.randrange(12)

    def tear(fd: int, data: Any) -> int:
        write(fd, data[: chance.randrange(len(data) + 1)])
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    journal = Journal(state, on_loss=lambda reason: say(f"lost {reason}"), segment_bytes=2000)
    for number in range(whole + 1):
        record = f"{name}.{number}"
        say(f"issued {record}")
        if number == whole:
            os.write = tear
        journal.append(record.encode() + b" " * chance.randrange(3000), then=lambda _position: None)
        say(f"acknowledged {record}")


def kills(state: StateDirectory, seed: str) -> None:
    """As many kills as standard input says, several writers at once."""
    for first in range(0, int(sys.stdin.read()), WRITERS_AT_ONCE):
        children = []
        for number in range(first, first + WRITERS_AT_ONCE):
            child = os.fork()
            if child == 0:
                write_and_be_killed(state, f"{seed}.{number}")
                os._exit(1)
            children.append(child)
        for child in children:
            _, status = os.waitpid(child, 0)
            say(f"killed {os.WIFSIGNALED(status)}")


def fill(path: Path, *, leave: int) -> None:
    """Take the room of a disk, to the last byte, and give some back."""
    with path.open("ab", buffering=0) as file:
        size = 4096
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2
        file.truncate(file.tell() - leave)


def full(state: StateDirectory, _seed: str) -> None:
    """The reserve is made, given up for records, missed, and made again when there is room."""
    reasons: list[str] = []
    kept: list[Position | None] = []
    journal = Journal(state, on_loss=reasons.append, reserve_bytes=64 * 1024)
    ballast = Path(sys.argv[2]) / "ballast"
    has_reserve: Callable[[], bool] = lambda: RESERVE in state.names(RESERVE)  # noqa: E731 - said three times

    def append(number: int) -> None:
        journal.append(b"%04d" % number * 250, then=kept.append)

    append(0)
    journal.keep_reserve()
    said = {"reserve at first": has_reserve()}
    fill(ballast, leave=4096)
    for number in range(1, 200):
        append(number)
    said["reserve when full"] = has_reserve()
    journal.keep_reserve()
    said["reserve while it is full"] = has_reserve()
    ballast.unlink()
    for number in range(200, 300):
        append(number)
    journal.keep_reserve()
    said["reserve with room"] = has_reserve()
    say(json.dumps({"said": said, "reasons": reasons, "kept": [place is not None for place in kept]}))


if __name__ == "__main__":
    {"kills": kills, "full": full}[sys.argv[1]](StateDirectory(Path(sys.argv[2]) / "shop-dev"), sys.argv[-1])
