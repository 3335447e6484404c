"""The whole way of an alert: app, Prometheus, Alertmanager, Telegram; all but Telegram are real."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests import telegram_api
from tests.alerting_stack import SHIPPED, Shop, alertmanager, call, prometheus, rendered, until
from tests.telegram_api import TelegramApi

ALERTMANAGER = "prometheus-alertmanager"
HOSTILE = (
    "<b>bold</b> & <script>alert(1)</script>",
    "</b></i></code> unbalanced <a href='x'>",
    "&lt;&amp;&#60;&nosuch; &",
    "'\"`_*[]()~>#+-=|{}.!",
    "🧨" * 5_000,
    "<&>'\"" * 2_000,
    "\u202eright to left\u202c \u2066\u05d0\u05d1\u05d2 \u0627\u0644\u0639\u0631",
    "line\nbreaks\r\nand\ttabs\u2028more\u0085end\x00\x1b[31m",
    "half a pair \ud83d and \udca5",
    "👨\u200d👩\u200d👧\u200d👦" * 900,
    "Ж" * 10_000,
    "",
)


@pytest.fixture
def telegram() -> Iterator[TelegramApi]:
    with telegram_api.telegram_api() as api:
        yield api


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield Shop(tmp_path, listening)


def fires(url: str, alert: str) -> bool:
    """Whether Prometheus has the alert firing now."""
    asked = quote(f'ALERTS{{alertname="{alert}", alertstate="firing"}}')
    answer = call(f"{url}/api/v1/query?query={asked}")
    return bool(answer and answer["data"]["result"])


def known(url: str, alert: str) -> bool:
    """Whether Alertmanager has the alert as going on, muted or not."""
    return any(one["labels"]["alertname"] == alert for one in call(f"{url}/api/v2/alerts") or ())


def test_the_shipped_configuration_is_valid(tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    """Amtool takes what we ship, as its Debian version can read it."""
    path = tmp_path / "alertmanager.yml"
    path.write_text(rendered("1:a", chat=-1, api_url="http://127.0.0.1:1"))
    command = [require_tool("amtool"), "check-config", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "bot_token_file: " in (SHIPPED / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_failing_recovering_and_dying(
    shop: Shop, telegram: TelegramApi, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    """Failures are told and their end is; of a dead app only that it is down, and of one that is back what it does now."""
    binaries = require_tool("prometheus"), require_tool(ALERTMANAGER)

    def told(part: str, *, since: int = 0) -> bool:
        return any(part in text for text in telegram.texts[since:])

    def until_told(part: str, *, fails: bool, since: int) -> int:
        """Keep the traffic up until the message comes; returns how many there are."""

        def traffic() -> bool:
            shop.order(fails=fails)
            return told(part, since=since)

        until(traffic, 60)
        return len(telegram.texts)

    failing, over = "of the requests fail", "ended: GenappHttpErrors"
    with (
        alertmanager(binaries[1], tmp_path, telegram) as am,
        prometheus(binaries[0], tmp_path, app_port=shop.port, alertmanager_url=am) as prom,
    ):
        with shop.alive() as process:
            seen = until_told("Alerting is at work", fails=False, since=0)
            assert not told(failing)
            seen = until_told(failing, fails=True, since=seen)
            assert told("shop (prod): ")
            seen = until_told(over, fails=False, since=seen)
            assert told(
                "At most 5 % of the requests of the last 5 minutes failed, or there were too few to tell."
            )
            seen = until_told(failing, fails=True, since=seen)
            shop.order(fails=True)
            process.kill()
            died = len(telegram.texts)
            until(lambda: told("shop (prod) is down", since=died), 60)
            until(lambda: not fires(prom, "GenappHttpErrors") and not known(am, "GenappHttpErrors"), 60)
            assert known(am, "GenappAppDown")
        with shop.alive():
            seen = until_told("ended: GenappAppDown", fails=True, since=died)
            seen = max(seen, until_told(failing, fails=True, since=died))
            assert not told(over, since=died)
            until_told(over, fails=False, since=seen)
    assert telegram.refused == {}


def ended(alert: dict[str, Any], *, ago: timedelta) -> dict[str, Any]:
    """The alert as one that ended a while ago."""
    end = datetime.now(UTC) - ago
    return {**alert, "startsAt": (end - timedelta(hours=2)).isoformat(), "endsAt": end.isoformat()}


def post(url: str, alerts: list[dict[str, Any]]) -> None:
    """Hand alerts to Alertmanager, all at once: as going on, or as they say."""
    now = datetime.now(UTC)
    going_on = {"startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()}
    assert call(f"{url}/api/v2/alerts", [{**going_on, **alert} for alert in alerts]) is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("outage", "instance"),
    [("GenappAppDown", None), ("GenappTargetDown", "shop:8000")],
    ids=["app", "instance"],
)
def test_an_end_nobody_measured_is_not_told(
    outage: str,
    instance: str | None,
    telegram: TelegramApi,
    tmp_path: Path,
    require_tool: Callable[[str], str],
) -> None:
    """What ended for want of data is not told once the app is back, though Prometheus still sends that end."""

    def alert(name: str, *, on: str | None = instance) -> dict[str, Any]:
        labels = {"alertname": name, "env": "prod", "app": "shop", "severity": "warning"}
        return {
            "labels": labels | ({"instance": on} if on else {}),
            "annotations": {"summary": f"{name} fires"},
        }

    down, elsewhere = alert(outage), alert("Elsewhere", on="shop:8001")
    with alertmanager(require_tool(ALERTMANAGER), tmp_path, telegram) as am:
        post(am, [down, alert("Failing"), alert("Late"), elsewhere])
        until(lambda: any(f"{outage} fires" in text for text in telegram.texts))
        seconds_ago = {"Failing": 20, "Elsewhere": 20, outage: 10, "Late": 0}
        ends = [alert("Failing"), elsewhere, down, alert("Late")]
        post(am, [ended(one, ago=timedelta(seconds=seconds_ago[one["labels"]["alertname"]])) for one in ends])
        until(lambda: any("ended: " in text for text in telegram.texts))
    told = {name: any(f"ended: {name}" in text for text in telegram.texts) for name in seconds_ago}
    assert told == {"Failing": False, "Elsewhere": instance is not None, outage: True, "Late": True}
    assert telegram.refused == {}


def hostile(number: int, app: str) -> dict[str, Any]:
    """An alert with the worst of texts in every place."""
    text = HOSTILE[number % len(HOSTILE)]
    return {
        "labels": {
            "alertname": f"Hostile{number} {text}",
            "env": f"prod{text}",
            "app": app,
            "severity": "critical",
        },
        "annotations": {
            "summary": f"{number}: {text}",
            "description": text * 2,
            "over": f"{number} over {text}",
        },
    }


@pytest.mark.slow
def test_200_hostile_alerts_are_delivered(
    telegram: TelegramApi, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    """Each of 200 alerts with hostile texts arrives, firing and ended, and Telegram refuses none."""
    with alertmanager(require_tool(ALERTMANAGER), tmp_path, telegram) as am:
        alerts = [hostile(number, f"app {number} <{HOSTILE[number % len(HOSTILE)]}") for number in range(200)]
        telegram.throttle_next = 5
        post(am, alerts)
        until(lambda: len(telegram.texts) >= 200, 60)
        assert sorted(
            int(text.split("\n")[0].split(":")[0].removeprefix("🔴 ")) for text in telegram.texts
        ) == [*range(200)]
        post(am, [ended(alert, ago=timedelta(0)) for alert in alerts])
        until(lambda: len(telegram.texts) >= 400, 60)
        assert all(text.startswith("⚪ ended: Hostile") for text in telegram.texts[200:])
    assert telegram.refused == {"Too Many Requests: retry after 1": 5}
    assert max(map(telegram_api.units, telegram.sources)) <= 3900


@pytest.mark.slow
def test_200_alerts_of_one_app_are_one_message(
    telegram: TelegramApi, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    """A message holds as many whole alerts as fit, and says how many more there are."""
    with alertmanager(require_tool(ALERTMANAGER), tmp_path, telegram) as am:
        alerts = [hostile(number, "shop") for number in range(200)]
        for alert in alerts:
            alert["labels"]["env"] = "prod"
        post(am, alerts)
        until(lambda: telegram.texts)
        (text,) = telegram.texts
        shown = text.count("🔴 ")
        assert text.endswith(f"… and {200 - shown} more")
        assert (shown >= 3, telegram.refused) == (True, {})
