"""Everybody else of a server with workers: what they have counted, and what the dead leave behind."""

from __future__ import annotations

import threading
from collections.abc import Callable

from otel_genapp.metrics.pull import forget_socket
from otel_genapp.metrics.snapshot import NOBODY, Snapshot, Table
from otel_genapp.metrics.tally import Tally
from otel_genapp.metrics.totals import AddingUp, Totals, add_gauges, add_system
from otel_genapp.metrics.worker_files import DEAD, SOCKET, UnreadableError, View, WorkerFiles
from otel_genapp.quiet import quiet
from otel_genapp.state_directory import StateDirectory

MERGE_TIMEOUT_S = 0.25
Position = tuple[str, int]
_guarded = quiet("metrics")


class Others:
    """The workers beside `worker`; see `WorkerMetrics` for `replay`."""

    def __init__(
        self,
        state: StateDirectory,
        files: WorkerFiles,
        *,
        worker: str,
        replay: Callable[[Position, Tally], None],
    ) -> None:
        self._state = state
        self._files = files
        self._worker = worker
        self._replay = replay
        self._reading = threading.Lock()
        self._adding = AddingUp()
        self.last = NOBODY
        """What they had counted when they could be read last."""
        self.living = 0
        """How many there were then."""
        self.problem = ""
        """Why they cannot be read; "" if they can."""

    def gathered(self, mine: Snapshot) -> tuple[Snapshot, set[str]]:
        """What they have counted, and the families in which that includes `mine`, or else as it was last."""
        with _guarded, self._reading:
            return self._gathered(mine)
        return self.last, set()

    def total(self, mine: Snapshot) -> Table:
        """What they and this worker have counted."""
        others, hidden = self.gathered(mine)
        totals = self._adding.begin(others.counted)
        totals.add({name: series for name, series in mine.counted.items() if name not in hidden})
        return totals.table

    def bury_if_any(self) -> None:
        """Fold those who have died."""
        with self._reading:
            if self._look().gone:
                self._bury()

    def _look(self) -> View:
        try:
            view = self._files.look(self._worker)
        except UnreadableError as error:
            self.problem = str(error)
            raise
        self.problem = ""
        return view

    def _gathered(self, mine: Snapshot) -> tuple[Snapshot, set[str]]:
        """What everybody else has counted, and the families in which that includes this worker's own."""
        view = self._look()
        if view.gone:
            self._bury()
            view = self._look()
        totals, overfull = self._added_up(view, mine)
        if totals.has_new:
            with self._files.alone(MERGE_TIMEOUT_S) as alone:
                if alone:
                    view = self._look()
                    totals, overfull = self._added_up(view, mine)
                    dead = view.dead
                    self._files.write(
                        DEAD,
                        Snapshot(
                            counted=totals.registered(dead.counted), system=dead.system, folded=dead.folded
                        ),
                    )
        totals.add({name: mine.counted[name] for name in overfull})
        self.living = len(view.living)
        gauges: Table = {}
        system: Table = {}
        add_system(system, view.dead, living=False)
        for snapshot in view.gone.values():
            add_system(system, snapshot, living=False)
        for snapshot in view.living.values():
            add_gauges(gauges, snapshot.gauges)
            add_system(system, snapshot, living=True)
        self.last = Snapshot(counted=totals.table, gauges=gauges, system=system)
        return self.last, overfull

    def _added_up(self, view: View, mine: Snapshot) -> tuple[Totals, set[str]]:
        others = [snapshot.counted for snapshot in (*view.gone.values(), *view.living.values())]
        return self._adding.up(view.dead.counted, others, own=mine.counted)

    def _bury(self) -> None:
        """Fold the dead into their file: first the sums with their names, then their files go.

        A crash in between counts nobody twice: who is named is not counted beside.
        """
        with self._files.alone(0) as alone:
            if not alone:  # it is being done
                return
            view = self._look()
            totals = self._adding.begin(view.dead.counted)
            system: Table = {}
            add_system(system, view.dead, living=False)
            buried = list(view.leftover)
            for worker, last in view.gone.items():
                with _guarded:
                    replayed: Table = {}
                    self._replay(last.position or (f"journal-{worker}-", 0), Tally(replayed))
                    totals.add(last.counted)
                    totals.add(replayed)
                    add_system(system, last, living=False)
                    buried.append(worker)
            dead = Snapshot(counted=totals.compacted(), system=system, folded=tuple(buried))
            if buried and self._files.write(DEAD, dead, durable=True):
                for worker in buried:
                    if self._state.path is not None:
                        forget_socket(self._state.path, self._files.name(worker, SOCKET))
                    self._files.remove(worker)
