"""A Telegram Bot API on a loopback socket: for tests, examples and the demo.

    with FakeTelegram() as telegram:
        telegram.write(chat_id=7, text="/start")  # a user writes to the bot
        # a bot with `telegram.token` polls `telegram.root_url` and answers
        (answer,) = telegram.wait_for(1)

It needs the standard library only and knows nothing of telemetry.
"""

from otel_genapp.fake_telegram.server import FakeTelegram
from otel_genapp.fake_telegram.state import Sent

__all__ = ["FakeTelegram", "Sent"]
