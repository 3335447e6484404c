"""A request as the fake server understood it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from otel_genapp import semconv

Operation = Literal["chat", "embeddings"]

_TOKENS_PER_MESSAGE = 4


class BadRequestError(ValueError):
    """The request breaks the protocol; the message goes to the client with status 400."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMRequest:
    """One request: its place in the order of arrival (from 1), its parsed body, its headers.

    Header names are in lower case; the values of headers that carry credentials are left out.
    """

    number: int
    operation: Operation
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.body["model"])

    @property
    def stream(self) -> bool:
        """Whether the answer is to be streamed."""
        return self.operation == "chat" and bool(self.body.get("stream"))

    @property
    def include_usage(self) -> bool:
        """Whether the answer is to say its tokens: always, except in streams that did not ask."""
        options = self.body.get("stream_options")
        return not self.stream or bool(isinstance(options, Mapping) and options.get("include_usage"))

    @property
    def choices(self) -> int:
        """How many alternatives are asked for (`n`)."""
        wanted = self.body.get("n")
        return wanted if isinstance(wanted, int) and wanted > 0 else 1

    @property
    def attempt(self) -> int:
        """Which attempt of the client's this is, from 1, as the OpenAI SDK counts its retries."""
        retries = self.headers.get("x-stainless-retry-count", "0")
        return 1 + int(retries) if retries.isdecimal() else 1

    @property
    def session(self) -> str | None:
        """Who asks: the body's `metadata.session_id`, its `user`, or the header `x-session-id`.

        The body comes first: the header may be the work of the telemetry to be checked.
        """
        metadata = self.body.get("metadata")
        found = (
            (metadata.get("session_id") if isinstance(metadata, Mapping) else None)
            or self.body.get("user")
            or self.headers.get(semconv.HEADER_SESSION)
        )
        return None if found is None else str(found)

    @property
    def text(self) -> str:
        """The text of the last user message, or of the last input to embed."""
        if self.operation == "embeddings":
            return self.inputs[-1]
        users = [message for message in self.body["messages"] if message.get("role") == "user"]
        return _content_text(users[-1].get("content")) if users else ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """What is to be embedded, one text each; token lists become the text of their numbers."""
        given = self.body.get("input")
        if isinstance(given, str) or not isinstance(given, Sequence):
            return (str(given),)
        if given and all(isinstance(token, int) for token in given):
            return (" ".join(map(str, given)),)
        return tuple(
            item if isinstance(item, str) else " ".join(str(token) for token in item) for item in given
        )

    @property
    def prompt_tokens(self) -> int:
        """The prompt's size by the fake server's count: its words, and four for each message."""
        if self.operation == "embeddings":
            return sum(count_tokens(text) for text in self.inputs)
        return sum(
            count_tokens(_content_text(message.get("content"))) + _TOKENS_PER_MESSAGE
            for message in self.body["messages"]
        )


def parse_request(
    operation: Operation, payload: bytes, *, number: int, headers: Mapping[str, str]
) -> LLMRequest:
    """The request in `payload`.

    Raises:
        BadRequestError: the payload is not what the API takes.
    """
    try:
        body = json.loads(payload)
    except ValueError:
        raise BadRequestError("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise BadRequestError("The body of the request must be a JSON object.")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise BadRequestError("you must provide a model parameter")
    if operation == "chat":
        _check_messages(body.get("messages"))
    elif not isinstance(body.get("input"), str | list) or not body["input"]:
        raise BadRequestError("Missing required parameter: 'input'.")
    elif isinstance(body["input"], list) and not all(
        isinstance(item, str | int | list) for item in body["input"]
    ):
        raise BadRequestError("Invalid type for 'input': expected texts or lists of tokens.")
    return LLMRequest(number=number, operation=operation, body=body, headers=headers)


def count_tokens(text: str) -> int:
    """The tokens of `text` by the fake server's count: one for each word."""
    return len(text.split())


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("Missing required parameter: 'messages'.")
    if not all(isinstance(message, dict) for message in messages):
        raise BadRequestError("Invalid type for 'messages': expected an array of objects.")


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, Mapping)]
    return " ".join(text for text in texts if isinstance(text, str))
