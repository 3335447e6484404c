"""Spans through outages: what was made while the collector was away arrives when it is back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from otel_genapp.pipeline.export.packing import PARCEL_BYTES
from otel_genapp.pipeline.export.spool import Spool
from otel_genapp.state_directory import StateDirectory
from tests.faults.conftest import Found
from tests.faults.exporting import Spooler, exporting, ids_in, wait_until
from tests.faults.flaky_collector import collecting
from tests.fresh import in_fresh_process

RATE = 500
AWAY = ("503", "429 1", "500", "401", "hang", "black_hole", "refuse", "ack_lost")


def go_through(mode: str, seconds: float, *, folder: Path, found: Found) -> dict[str, Any]:
    """What becomes of the spans of before, during and after an outage."""
    with collecting() as collector, exporting(collector, folder=folder) as app:
        made = app.work_at(RATE, 0.3)
        collector.be(mode)
        made += app.work_at(RATE, seconds)
        during = app.imbalance
        collector.be("ok")
        made += app.work_at(RATE, 0.3)
        flushed = app.flush(30)
        arrived = ids_in(collector)
        found(
            f"{seconds:g} s of {mode}",
            f"{len(made)} spans at {RATE} a second",
            lost=len(set(made) - set(arrived)),
            duplicated=app.counted("exported") - len(set(made)),
            phantom=len(set(arrived) - set(made)),
        )
        return {
            "flushed": flushed,
            "lost": len(set(made) - set(arrived)),
            "strangers": len(set(arrived) - set(made)),
            "made": len(made) == app.counted("created") == app.counted("exported"),
            "dropped": app.dropped,
            "imbalance": (during, app.imbalance),
            "left on disk": [file for file in folder.iterdir() if not file.name.endswith("-000000")],
        }


WELL = {
    "flushed": True,
    "lost": 0,
    "strangers": 0,
    "made": True,
    "dropped": {},
    "imbalance": (0, 0),
    "left on disk": [],
}


@pytest.mark.parametrize("mode", AWAY)
def test_an_outage_loses_nothing(mode: str, tmp_path: Path, found: Found) -> None:
    """However the collector is away, every span arrives when it is back, and is counted once."""
    assert go_through(mode, 1.5, folder=tmp_path / "state", found=found) == WELL


@pytest.mark.slow
def test_four_seconds_of_503(tmp_path: Path, found: Found) -> None:
    """Two thousand spans wait on disk and arrive, each once."""
    assert go_through("503", 4.0, folder=tmp_path / "state", found=found) == WELL


@pytest.mark.soak
@pytest.mark.parametrize("mode", AWAY)
def test_fifteen_seconds(mode: str, tmp_path: Path, found: Found) -> None:
    """The outage in which the SDK's own exporter loses a third."""
    assert go_through(mode, 15.0, folder=tmp_path / "state", found=found) == WELL


def test_spans_arrive_in_order(tmp_path: Path) -> None:
    """What waited on disk is sent in the order in which it was made."""
    with collecting("503") as collector, exporting(collector, folder=tmp_path / "state") as app:
        made = []
        for _ in range(5):
            made += app.work(20)
            spooled = len(made)
            assert wait_until(lambda number=spooled: app.export.spooled == number)  # type: ignore[misc]
        collector.be("ok")
        assert app.flush()
        assert ids_in(collector) == made


def test_a_collector_that_is_killed(tmp_path: Path) -> None:
    """It dies under load and comes back twice, and has every span then."""
    with collecting() as collector, exporting(collector, folder=tmp_path / "state") as app:
        made = app.work_at(RATE, 0.2)
        for _ in range(2):
            collector.kill()
            made += app.work_at(RATE, 0.5)
            collector.start()
            made += app.work_at(RATE, 0.5)
        assert app.flush()
        assert set(ids_in(collector)) == set(made)
        assert (app.dropped, app.imbalance) == ({}, 0)


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    """What it had on disk is delivered by the next process, and counted there."""
    with collecting("black_hole") as collector:
        spooler = Spooler(collector, tmp_path / "state", number=1000)
        spooler.kill()
        collector.be("ok")
        with exporting(collector, folder=tmp_path / "state") as app:
            own = app.work(10)
            assert wait_until(lambda: app.counted("exported") == 1010)
            assert app.flush()
            assert sorted(ids_in(collector)) == sorted([*spooler.spans, *own])
            assert {
                state: app.counted(state) for state in ("created", "exported", "spooled", "unspooled")
            } == {"created": 10, "exported": 1010, "spooled": 0, "unspooled": 1000}
            assert (app.dropped, app.imbalance) == ({}, 0)
        assert list((tmp_path / "state").iterdir()) == []


def test_a_living_process_keeps_its_spool(tmp_path: Path) -> None:
    """Another process of the same directory sends its own spans only."""
    with collecting("503") as away, collecting() as collector:
        spooler = Spooler(away, tmp_path / "state", number=100)
        try:
            with exporting(collector, folder=tmp_path / "state") as app:
                own = app.work(10)
                assert app.flush()
                assert ids_in(collector) == own
                away.be("ok")
                assert wait_until(lambda: len(away.spans) >= 100)
                assert set(ids_in(away)) == set(spooler.spans)
        finally:
            spooler.kill()


@pytest.mark.parametrize("mode", ["503", "black_hole"])
def test_a_process_that_ends(mode: str, tmp_path: Path) -> None:
    """What cannot be delivered at its end stays on disk for the next, and is no loss."""
    with collecting(mode) as collector:
        with exporting(collector, folder=tmp_path / "state") as app:
            made = app.work(300)
            began = time.monotonic()
            assert not app.close(0.5)
            assert time.monotonic() - began < 1.5
            assert (app.export.pending, app.export.spooled, app.dropped) == (300, 300, {})
            assert app.imbalance == 0
        collector.be("ok")
        with exporting(collector, folder=tmp_path / "state") as later:
            assert wait_until(lambda: later.counted("exported") == 300)
        assert ids_in(collector) == made


def test_an_end_without_time(tmp_path: Path) -> None:
    """What was queued a moment ago goes to the disk too."""
    with collecting("black_hole") as collector, exporting(collector, folder=tmp_path / "state") as app:
        app.work(300)
        assert not app.close(0)
        assert app.export.pending == app.export.spooled > 0
        assert app.export.spooled + sum(app.dropped.values()) == 300
        assert app.imbalance == 0


def test_without_a_directory_memory_is_bounded(tmp_path: Path) -> None:
    """What it takes arrives when the collector is back; the rest is refused and counted."""
    with collecting("503") as collector, exporting(collector, queue_size=500) as app:
        made = app.work_at(5000, 0.5)
        assert 1 < app.dropped["queue_full"] < len(made)
        assert 500 <= app.export.pending <= 1000
        assert app.imbalance == 0
        collector.be("ok")
        app.flush()
        assert len(set(ids_in(collector))) == len(made) - app.dropped["queue_full"]
        assert (list(app.dropped), app.imbalance) == (["queue_full"], 0)


def test_a_full_spool_drops_the_oldest(tmp_path: Path) -> None:
    """Past its bytes the oldest segments go, counted to the span, and the newest spans arrive."""
    folder, limit = tmp_path / "state", 400_000
    with (
        collecting("503") as collector,
        exporting(collector, folder=folder, spool_bytes=limit) as app,
    ):
        made = []
        for _ in range(25):
            made += app.work(100, text="x" * 100)
            assert wait_until(lambda: app.export.pending == app.export.spooled)
            assert sum(file.stat().st_size for file in folder.iterdir()) <= limit * 1.3
        assert app.imbalance == 0
        collector.be("ok")
        assert not app.flush()
        assert app.flush()
        arrived = ids_in(collector)
        assert len(made) - len(arrived) == app.dropped["spool_full"] > 0
        assert set(made[-1000:]) <= set(arrived)
        assert (list(app.dropped), app.imbalance) == (["spool_full"], 0)


def test_a_directory_that_is_cleared(tmp_path: Path) -> None:
    """What lay there is lost and counted; what is made later is kept again, and arrives."""
    folder = tmp_path / "state"
    with collecting("503") as collector, exporting(collector, folder=folder) as app:
        app.work(100)
        assert wait_until(lambda: app.export.spooled == 100)
        for file in folder.iterdir():
            file.unlink()
        later = app.work(100)
        assert wait_until(lambda: app.export.spooled == app.export.pending > 0)
        collector.be("ok")
        app.flush()
        assert wait_until(lambda: app.export.pending == 0)
        lost = app.dropped.get("spool_damaged", 0)
        assert lost <= 100
        assert set(later) <= set(ids_in(collector))
        assert len(set(ids_in(collector))) == 200 - lost
        assert app.imbalance == 0


def fill_the_disk(folder: str) -> dict[str, Any]:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with collecting("503") as collector, exporting(collector, folder=Path(folder)) as app:
        app.work(1)
        wait_until(lambda: app.export.spooled == 1)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        made = app.work_at(1000, 2.0)
        full = {"on disk": app.export.spooled < len(made), "balanced": app.imbalance == 0}
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        collector.be("ok")
        app.flush()
        arrived = len(set(ids_in(collector)))
        lost = sum(app.dropped.values())
        return {**full, "accounted": arrived + lost == len(made) + 1, "balanced after": app.imbalance == 0}


def test_a_full_disk(tmp_path: Path) -> None:
    """Where the disk takes no more, memory takes some, and what is refused is counted."""
    assert in_fresh_process(fill_the_disk, str(tmp_path / "state")) == {
        "on disk": True,
        "balanced": True,
        "accounted": True,
        "balanced after": True,
    }


def test_long_prompts_to_a_healthy_collector(tmp_path: Path) -> None:
    """A burst of a thousand spans of 140 kB arrives whole, in requests no receiver refuses."""
    with collecting() as collector, exporting(collector) as app:
        prompts = ["many words " * 12_700 + str(number) for number in range(8)]
        made = [span for number in range(1024) for span in app.work(prompt=prompts[number % 8])]
        assert app.flush(30)
        assert set(ids_in(collector)) == set(made)
        assert max(request.bytes for request in collector.requests) <= PARCEL_BYTES
        assert app.dropped == {}


def remember_in_a_black_hole(folder: str | None) -> dict[str, Any]:
    with (
        collecting("black_hole") as collector,
        exporting(collector, folder=Path(folder) if folder else None) as app,
    ):
        app.work(10)
        time.sleep(0.5)  # what the exporter imports is not what is measured
        process = psutil.Process()
        before = most = process.memory_info().rss
        words = "many words " * 10_000
        for number in range(4000):
            app.work(prompt=f"{number} {words}")
            most = max(most, process.memory_info().rss)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            most = max(most, process.memory_info().rss)
            time.sleep(0.05)
        return {"grown_mib": (most - before) / 2**20, "imbalance": app.imbalance}


@pytest.mark.slow
@pytest.mark.parametrize("has_folder", [True, False], ids=["disk", "memory"])
def test_memory_is_bounded_in_bytes(has_folder: bool, tmp_path: Path) -> None:
    """Four thousand spans of 110 kB for a collector that never reads take 64 MiB at most."""
    seen = in_fresh_process(remember_in_a_black_hole, str(tmp_path / "state") if has_folder else None)
    assert seen["grown_mib"] <= 64
    assert seen["imbalance"] == 0


def fork_in_an_outage(folder: str) -> dict[str, Any]:
    from tests.forked import in_child

    with collecting("503") as collector, exporting(collector, folder=Path(folder)) as app:
        made = app.work(50)
        wait_until(lambda: app.export.spooled == 50)

        def day_of_a_child() -> list[str]:
            app.export.reset()
            mine = app.work(50)
            wait_until(lambda: app.export.spooled == 50)
            return mine  # and dies without a word

        childs = in_child(day_of_a_child)
        collector.be("ok")
        flushed = app.flush()
        own = sorted(ids_in(collector)) == sorted(made)
        app.close()
        with exporting(collector, folder=Path(folder)) as later:
            wait_until(lambda: later.counted("exported") == 50)
        return {
            "flushed": flushed,
            "the parent's": own,
            "all": sorted(ids_in(collector)) == sorted([*made, *childs]),
        }


def test_a_forked_child_has_a_spool_of_its_own(tmp_path: Path) -> None:
    """The parent's stays the parent's, and what a dead child left is sent by whoever comes next."""
    assert in_fresh_process(fork_in_an_outage, str(tmp_path / "state")) == {
        "flushed": True,
        "the parent's": True,
        "all": True,
    }


def outlive_the_parent(folder: str) -> dict[str, Any]:
    reading, writing = os.pipe()
    with collecting("503") as collector, exporting(collector, folder=Path(folder)) as app:
        app.work(50)
        wait_until(lambda: app.export.spooled == 50)
        child = os.fork()
        if child == 0:
            app.export.reset()
            app.export.close()  # lest it be the heir
            os.write(writing, b"reset")
            time.sleep(30)
            os._exit(0)
        os.read(reading, 5)
        app.export._dispatch.outbox.forget()  # what the end of the parent does
        heir = Spool.of_the_dead(StateDirectory(Path(folder)), print, besides=())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return {"found": heir is not None}


def test_a_child_that_outlives_its_parent(tmp_path: Path) -> None:
    """It does not hold what the parent left."""
    assert in_fresh_process(outlive_the_parent, str(tmp_path / "state")) == {"found": True}
