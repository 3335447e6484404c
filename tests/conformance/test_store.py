"""What every store promises, whatever it keeps its records in."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from otel_genapp import semconv
from otel_genapp.ledger.rollup import Rollup, SessionRollup
from otel_genapp.ledger.store import CallPage, SessionPage, Store, Totals
from otel_genapp.records import Usage, UsageRecord
from tests.builders import MINUTE_NS, START_NS, amendment, call
from tests.conformance.stores import Factory


def sums_of(*records: UsageRecord) -> Rollup:
    """The sums of these records, made directly."""
    sums = Rollup()
    for record in records:
        sums.add(record)
    return sums


def session_of(session_id: str, *records: UsageRecord) -> SessionRollup:
    session = SessionRollup(session_id)
    for record in records:
        session.add(record)
    return session


def test_records_make_a_session_and_totals(store: Store) -> None:
    """A session is the fold of its records, the totals of all of them, by model too."""
    mine = (call("1"), call("2", status="fail", usage=Usage()), amendment("1"))
    other = call("3", session_id="s2", model="small")
    assert store.apply((*mine, other)) == 4
    assert store.session("s1") == session_of("s1", *mine)
    assert store.session("s2") == session_of("s2", other)
    assert store.session("unknown") is None
    assert store.totals() == Totals(
        sums_of(*mine, other), {("openai", "gpt-5"): sums_of(*mine), ("openai", "small"): sums_of(other)}
    )


def test_an_empty_store(store: Store) -> None:
    """Before the first record everything is empty, nothing is an error."""
    assert store.totals() == Totals(Rollup(), {})
    assert store.totals(from_ns=0, to_ns=START_NS) == Totals(Rollup(), {})
    assert store.sessions(limit=10, cursor=None) == SessionPage((), 0, None)
    assert (store.active_sessions(since_ns=0), store.clear("s1"), store.apply(())) == (0, False, 0)


def test_applying_twice_counts_once(store: Store) -> None:
    """A record is known by (call_id, seq): a second delivery changes nothing, in any order."""
    records: list[UsageRecord] = [
        call("1"), amendment("1", 1), amendment("1", 2), call("2"), amendment("2", 1),
    ]  # fmt: skip
    delivered = records * 3
    random.Random(1).shuffle(delivered)  # noqa: S311 - repeatable on purpose
    assert sum(store.apply((record,)) for record in delivered) == len(records)
    assert store.totals().overall == sums_of(*records)


def test_amendments_may_come_first(store: Store) -> None:
    """An amendment that arrives before its call counts all the same, without a request."""
    assert store.apply((amendment("1"),)) == 1
    assert store.totals().overall == sums_of(amendment("1"))
    assert store.apply((call("1"), amendment("1"))) == 1
    assert store.totals().overall == sums_of(call("1"), amendment("1"))


def test_amendments_add_their_cost(store: Store) -> None:
    """What further tokens cost counts for the session and the totals; without a price they leave it open."""
    store.apply((call("1", cost_nano_usd=5), amendment("1", 1, cost_nano_usd=7), amendment("1", 2)))
    store.apply((amendment("1", 1, cost_nano_usd=7), amendment("1", 3, usage=Usage(), attempts=("429",))))
    session = store.session("s1")
    assert session is not None
    for sums in (session.sums, store.totals().overall, store.totals().by_model["openai", "gpt-5"]):
        assert (sums.cost_nano_usd, sums.unpriced, sums.unpriced_amendments) == (12, 0, 1)


def test_calls_without_a_session(store: Store) -> None:
    """They are kept under a name of their own, which is no active session."""
    store.apply((call("1", session_id=None),))
    assert store.session(semconv.NO_SESSION) == session_of(semconv.NO_SESSION, call("1", session_id=None))
    assert store.active_sessions(since_ns=0) == 0


def test_clearing_keeps_the_totals(store: Store) -> None:
    """A cleared session is unknown, the totals stay, and it starts from nothing again."""
    store.apply((call("1"), call("2", session_id="s2")))
    before = store.totals()
    assert (store.clear("s1"), store.clear("s1")) == (True, False)
    assert (store.session("s1"), store.totals()) == (None, before)
    assert store.sessions(limit=10, cursor=None) == SessionPage(("s2",), 1, None)
    store.apply((call("1"), call("3")))
    assert store.session("s1") == session_of("s1", call("3"))


def test_an_answer_is_a_copy(store: Store) -> None:
    """What a caller does with a session or with totals changes nothing in the store."""
    store.apply((call("1"),))
    session, totals = store.session("s1"), store.totals()
    assert session is not None
    session.add(call("2"))
    totals.overall.add(call("2"))
    for sums in totals.by_model.values():
        sums.add(call("2"))
    assert store.session("s1") == session_of("s1", call("1"))
    assert store.totals() == Totals(sums_of(call("1")), {("openai", "gpt-5"): sums_of(call("1"))})


def read_on(store: Store, *, limit: int, between: Callable[[int], None] = lambda page: None) -> list[str]:
    """Every id of every page; `between` is called with the number of each page."""
    ids: list[str] = []
    cursor = None
    for number in range(100):
        page = store.sessions(limit=limit, cursor=cursor)
        ids += page.ids
        cursor = page.next
        if cursor is None:
            return ids
        between(number)
    raise AssertionError("the list has no end")


@pytest.mark.parametrize("limit", [1, 3, 4, 10, 100])
def test_pages_are_most_recent_first(store: Store, limit: int) -> None:
    """Pages of any size give each session once, the most recently active first."""
    store.apply(call(str(number), session_id=f"s{number}") for number in range(10))
    store.apply((amendment("3", session_id="s3"),))
    expected = ["s3", *(f"s{number}" for number in reversed(range(10)) if number != 3)]
    assert read_on(store, limit=limit) == expected
    page = store.sessions(limit=limit, cursor=None)
    assert (page.total, page.next is None) == (10, limit >= 10)


def test_pages_are_stable_while_sessions_move(store: Store) -> None:
    """Sessions that move up, appear or go between two pages repeat nothing and hide nothing that stayed."""
    store.apply(call(str(number), session_id=f"s{number}") for number in range(20))
    seen_first = {"s19", "s18", "s17", "s16", "s15"}

    def move(page: int) -> None:
        if page == 0:
            store.apply(call(f"again {name}", session_id=name) for name in seen_first)
            store.apply((call("new", session_id="newcomer"),))
            store.clear("s10")

    ids = read_on(store, limit=5, between=move)
    assert sorted(ids) == sorted({f"s{number}" for number in range(20)} - {"s10"})


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "\u0661", "9" * 5000, "1 "])
def test_foreign_cursors_are_refused(store: Store, cursor: str) -> None:
    """A cursor no page gave is an error, never a wrong page."""
    store.apply((call("1"),))
    with pytest.raises(ValueError, match=r"."):
        store.sessions(limit=1, cursor=cursor)


def test_totals_by_minute(store: Store) -> None:
    """A range covers the whole minutes that start in it; a call belongs to the minute it ended in."""
    at = [START_NS + minute * MINUTE_NS for minute in range(4)]
    calls = [call(str(number), started_at_ns=moment) for number, moment in enumerate(at)]
    across = call("across", started_at_ns=at[1] - 500_000_000)
    late = amendment("0", at_ns=at[2])
    store.apply((*calls, across, late))

    def within(first: int | None, last: int | None) -> Rollup:
        return store.totals(from_ns=first, to_ns=last).overall

    assert within(at[0], at[1]) == sums_of(calls[0])
    assert within(at[1], at[3]) == sums_of(calls[1], across, calls[2], late)
    assert within(at[0] + 1, at[1] + 1) == sums_of(calls[1], across)
    assert within(at[2], None) == sums_of(calls[2], late, calls[3])
    assert within(None, at[1]) == sums_of(calls[0])
    assert within(None, None) == sums_of(*calls, across, late)
    assert within(at[3] + MINUTE_NS, None) == Rollup()
    assert store.totals(from_ns=at[2], to_ns=at[3]).by_model == {("openai", "gpt-5"): sums_of(calls[2], late)}


def test_totals_of_calls_without_a_session(store: Store) -> None:
    """They are told apart in the totals over all time and in those of a range of minutes."""
    bound = [call(str(number)) for number in range(3)]
    unbound = [call(f"unbound {number}", session_id=None) for number in range(2)]
    late = amendment("unbound 0", session_id=None)
    store.apply((*bound, *unbound, late))
    for totals in (store.totals(), store.totals(from_ns=START_NS)):
        assert totals.overall == sums_of(*bound, *unbound, late)
        assert totals.without_session == sums_of(*unbound, late)
    assert store.totals(from_ns=START_NS + MINUTE_NS).without_session == Rollup()


def test_minutes_add_up_to_the_whole(store: Store) -> None:
    """300 random calls, cut into random ranges, are each in exactly one."""
    seed = random.Random(3)  # noqa: S311 - repeatable on purpose
    calls = [
        call(str(number), started_at_ns=START_NS + seed.randrange(3 * 3600) * 10**9) for number in range(300)
    ]
    store.apply(calls)
    edges = sorted(START_NS + seed.randrange(-60, 4 * 3600) * 10**9 for _ in range(12))
    sums = Rollup()
    for first, last in zip([None, *edges], [*edges, None], strict=True):
        sums.merge(store.totals(from_ns=first, to_ns=last).overall)
    whole = store.totals().overall
    assert (sums.calls, sums.tokens, sums.buckets) == (whole.calls, whole.tokens, whole.buckets)


def test_active_sessions(store: Store) -> None:
    """Sessions count by when their last call ended, in whatever order the records came."""
    store.apply(
        (
            call("1", session_id="s1", started_at_ns=START_NS),
            call("2", session_id="s2", started_at_ns=START_NS + 10 * MINUTE_NS),
            call("3", session_id="s2", started_at_ns=START_NS),
            call("4", session_id="old", started_at_ns=START_NS - MINUTE_NS),
        )
    )
    ends_ns = START_NS + 10**9
    since = (0, ends_ns - MINUTE_NS, ends_ns, ends_ns + 1, ends_ns + 10 * MINUTE_NS + 1)
    assert [store.active_sessions(since_ns=moment) for moment in since] == [3, 3, 2, 1, 0]


@pytest.mark.parametrize("open_store", ["memory"], indirect=True)
def test_the_least_active_session_goes_first(open_store: Factory) -> None:
    """Past the limit sessions lose their detail, each loss is told, and the totals keep everything."""
    evicted: list[None] = []
    store = open_store(session_limit=3, on_evict=lambda: evicted.append(None))
    store.apply(call(str(number), session_id=f"s{number}") for number in range(3))
    store.apply((call("again", session_id="s0"),))
    store.apply(call(f"more {number}", session_id=f"t{number}") for number in range(2))
    assert store.sessions(limit=10, cursor=None) == SessionPage(("t1", "t0", "s0"), 3, None)
    assert (len(evicted), store.session("s1"), store.totals().overall.calls) == (2, None, 6)


def test_threads_lose_nothing(store: Store) -> None:
    """8 threads that deliver, partly the same records, while others read, add up exactly."""
    # A store that wants to be written to now and then takes a batch of one with a dozen statements.
    share = 4 if store.write_every_s else 40
    records = [call(str(number), session_id=f"s{number % 7}") for number in range(12 * share)]
    new = [0] * 8

    def work(worker: int) -> None:
        for record in records[worker * share : (worker + 5) * share]:
            new[worker] += store.apply((record,))
            store.session("s1")
            store.sessions(limit=3, cursor=None)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == len(records)
    assert store.totals().overall == sums_of(*records)


def test_a_closed_store_still_answers(store: Store) -> None:
    """After `close` what was stored can be read."""
    store.apply((call("1"),))
    store.close()
    assert store.session("s1") == session_of("s1", call("1"))
    assert store.totals().overall == sums_of(call("1"))


def test_positions_are_kept_with_the_records(store: Store) -> None:
    """How far into the journals the records go is known, never goes back, and can be forgotten."""
    assert store.positions() == {}
    store.apply((call("1"),), through={"journal-a": 100})
    store.apply((call("2"),), through={"journal-a": 50, "journal-b": 7})
    store.apply((), through={"journal-b": 9})
    assert store.positions() == {"journal-a": 100, "journal-b": 9}
    store.forget(["journal-a", "journal-unknown"])
    assert store.positions() == {"journal-b": 9}


def test_history_is_paged(store: Store) -> None:
    """Every kept call of a session once, newest first, whatever the size of a page; amendments are none."""
    calls = [call(str(number)) for number in range(10)]
    store.apply((*calls, amendment("3"), call("other", session_id="s2")))
    for limit in (1, 3, 10, 100):
        found: list[UsageRecord] = []
        cursor = None
        while True:
            page = store.history("s1", limit=limit, cursor=cursor)
            found += page.calls
            cursor = page.next
            if cursor is None:
                break
        assert found == calls[::-1]
    assert store.history("unknown", limit=5, cursor=None).calls == ()
    with pytest.raises(ValueError, match="cursor"):
        store.history("s1", limit=5, cursor="x")


def test_history_is_stable_while_calls_are_added(store: Store) -> None:
    """Calls that come between two pages repeat nothing and hide nothing."""
    calls = [call(str(number)) for number in range(8)]
    store.apply(calls[:6])
    first = store.history("s1", limit=2, cursor=None)
    store.apply(calls[6:])
    rest = store.history("s1", limit=10, cursor=first.next)
    assert (*first.calls, *rest.calls) == tuple(calls[5::-1])
    assert rest.next is None


def test_odd_texts_stay_apart(store: Store) -> None:
    """Texts that a database cannot hold as they are mix with no other."""
    odd = ("\0", "\ufffd", "?", "\ud800", "\ud801", "\x01", "\x010000", "\x01\x01", "0000")
    store.apply(call(text, session_id=text, model=text) for text in odd)
    assert store.sessions(limit=20, cursor=None).ids == odd[::-1]
    assert store.totals().by_model == {("openai", text): sums_of(call(text)) for text in odd}
    assert store.apply(call(text, session_id=text, model=text) for text in odd) == 0


def test_large_numbers_are_kept(store: Store) -> None:
    """Whole nano-dollars and tokens are exact to the last digit, also where a float's would not be."""
    big = [call(str(number), cost_nano_usd=2**53 + 1, usage=Usage(input=10**9)) for number in range(3)]
    store.apply(big)
    overall = store.totals().overall
    assert (overall.cost_nano_usd, overall.tokens.input) == (3 * (2**53 + 1), 3 * 10**9)


def test_old_sessions_are_tidied_away(store: Store) -> None:
    """Sessions whose last call is older lose their detail; the others and the totals keep everything."""
    old, kept = call("1", session_id="old"), call("2", session_id="kept", started_at_ns=START_NS + MINUTE_NS)
    store.apply((old, kept))
    before = store.totals()
    assert store.tidy(before_ns=START_NS + MINUTE_NS // 2) == 1
    assert (store.session("old"), store.session("kept")) == (None, session_of("kept", kept))
    assert (store.totals(), store.sessions(limit=5, cursor=None).ids) == (before, ("kept",))
    assert store.history("old", limit=5, cursor=None) == CallPage((), None)
    assert store.tidy(before_ns=START_NS + MINUTE_NS // 2) == 0


def test_old_calls_of_an_active_session_are_tidied_away(store: Store) -> None:
    """They leave the list of calls; the sums of the session keep them."""
    old, kept = call("1"), call("2", started_at_ns=START_NS + MINUTE_NS)
    store.apply((old, kept, call("3", session_id=None)))
    assert store.tidy(before_ns=START_NS + MINUTE_NS // 2) == 0
    session, without = store.session("s1"), store.session(semconv.NO_SESSION)
    assert session is not None
    assert without is not None
    assert (session.sums, list(session.newest)) == (sums_of(old, kept), [kept])
    assert (without.sums.calls, list(without.newest)) == (1, [])
    assert store.history("s1", limit=5, cursor=None) == CallPage((kept,), None)


@pytest.mark.parametrize(
    "text", ["nul\0", "\ud800", "\u0434\u043e\u043c", "'; DROP TABLE x; --", "x" * 256, " "]
)
def test_any_text_is_kept(store: Store, text: str) -> None:
    """Session ids, models and users of any characters are found again, and break nothing."""
    record = call("1", session_id=text, model=text, user_id=text, error_type=text)
    store.apply((record, call("2", session_id="plain")))
    found = store.session(text)
    assert found is not None
    assert (found.sums, list(found.newest)) == (sums_of(record), [record])
    assert (list(found.models), list(found.users)) == ([text], [text])
    assert store.sessions(limit=5, cursor=None).ids == ("plain", text)
    assert set(store.totals().by_model) == {("openai", text), ("openai", "gpt-5")}
    assert store.clear(text)
