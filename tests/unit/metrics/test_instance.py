"""Which processes are one server: copies and spawned ones, never two a shell started."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.connection import Connection

import pytest

from otel_genapp.metrics.instance import Instance, Process, find_instance, is_over, is_worker_of
from tests.forked import in_child
from tests.processes import ROOT

SAY = (
    "from otel_genapp.metrics.instance import find_instance\n"
    "found = find_instance('')\nprint(found.id, found.is_worker, flush=True)"
)
SPAWN = (
    "python",
    "-c",
    "from multiprocessing.spawn import spawn_main; spawn_main(5)",
    "--multiprocessing-fork",
)
FORK_SERVER = ("python", "-c", "from multiprocessing.forkserver import main; main(1, 2)")
GUNICORN = ("python", "gunicorn", "shop:app", "-w", "4")


def process(*command: str, image: tuple[int, ...] = ()) -> Process:
    return Process(10, 9, 100, command, image)


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [
        pytest.param(process(*GUNICORN, image=(1, 2)), process(*GUNICORN, image=(1, 2)), True, id="forked"),
        pytest.param(
            process("title", image=(1, 2)), process(*GUNICORN, image=(1, 2)), True, id="forked, titled"
        ),
        pytest.param(
            process("python", "app.py", image=(1, 2)), process("bash", image=(3, 4)), False, id="shell"
        ),
        pytest.param(
            process(*GUNICORN, image=(1, 2)), process(*GUNICORN, image=(3, 4)), False, id="started anew"
        ),
        pytest.param(process(*SPAWN, image=(1, 2)), process("uvicorn", image=(3, 4)), True, id="spawned"),
        pytest.param(process(*FORK_SERVER), process("python", "app.py"), True, id="fork server"),
        pytest.param(process(*GUNICORN), process(*GUNICORN), True, id="images secret"),
        pytest.param(process(*GUNICORN), process("bash", "-c", "gunicorn"), False, id="images secret, shell"),
        pytest.param(
            process("gunicorn: worker [shop]"), process("gunicorn: master [shop]"), True, id="titles"
        ),
        pytest.param(process(), process(), False, id="nothing known"),
    ],
)
def test_who_is_a_worker(own: Process, parent: Process, expected: bool) -> None:
    """A copy that was forked is, and what `multiprocessing` spawned; what was started is a server of its own."""
    assert is_worker_of(own, parent) is expected


def test_forked_children_and_grandchildren_are_one_server() -> None:
    """The id is that of the first process, however many forks lie between."""
    own = find_instance("")
    child, grandchild = in_child(lambda: (find_instance(""), in_child(lambda: find_instance(""))))
    assert own.is_worker is False
    assert {child, grandchild} == {Instance(own.id, is_worker=True)}


def test_spawned_children_are_one_server() -> None:
    """Two processes that `multiprocessing` spawned have the id of who did."""
    context = multiprocessing.get_context("spawn")
    found = []
    for _ in range(2):
        ours, theirs = context.Pipe()
        child = context.Process(target=tell, args=(theirs,))
        child.start()
        theirs.close()
        found.append(ours.recv())
        child.join()
    assert found == [Instance(find_instance("").id, is_worker=True)] * 2


def tell(pipe: Connection) -> None:
    pipe.send(find_instance(""))


def test_two_deployments_of_one_shell_are_two() -> None:
    """The same program started twice by one shell, or by itself, has two ids."""
    script = f'{sys.executable} -c "{SAY}" & {sys.executable} -c "{SAY}" & wait'
    # Buffered: they write to one pipe, each its line at once.
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    said = subprocess.run(
        ["/bin/sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    found = [line.split() for line in said.stdout.splitlines()]
    assert len({name for name, _ in found}) == 2
    assert [is_worker for _, is_worker in found] == ["False", "False"]


def test_a_given_name_is_the_instance() -> None:
    """The same name is the same instance anywhere, and its id a plain word."""
    assert find_instance("blue/1") == find_instance("blue/1")
    assert find_instance("blue/1") != find_instance("blue/2")
    assert find_instance("blue/1").is_worker
    assert find_instance("blue/1").id.isalnum()


def test_ended_servers_are_known() -> None:
    """A process that has ended is over; a living one, a name given and one of another host are not."""
    ended = in_child(find_own_id)
    place = find_instance("").id.rpartition("_")[2]
    assert is_over(ended)
    assert is_over(f"1_0_{place}")
    assert not is_over(find_instance("").id)
    assert not is_over(find_instance("blue").id)
    assert not is_over(f"{ended[:-6]}ffffff")


def find_own_id() -> str:
    """What a child's own children would have for an id, were it no worker itself."""
    pid, _, place = find_instance("").id.split("_")
    return f"{os.getpid():x}_{int(pid, 16):x}_{place}"
