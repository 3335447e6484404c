"""A request as the fake server understood it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from otel_genapp import semconv

Operation = Literal["chat", "embeddings", "generate_content", "text_completion"]

_TOKENS_PER_MESSAGE = 4
_CALLERS = (("metadata", "session_id"), ("metadata", "user_id"), ("labels", "session_id"))


class BadRequestError(ValueError):
    """The request breaks the protocol; the message goes to the client with status 400."""


class Turn(NamedTuple):
    """One message of a conversation, one prompt, or one text to embed."""

    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMRequest:
    """One request: its place in the order of arrival (from 1), its parsed body, its headers.

    `protocol` is the wire format it came in (`chat`, `completions`, `embeddings`, `responses`,
    `azure`, `anthropic`, `gemini`); `turns` are the texts in it, in order. Header names are in
    lower case; the values of headers that carry credentials are left out.
    """

    number: int
    protocol: str
    operation: Operation
    model: str
    stream: bool
    turns: tuple[Turn, ...]
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def include_usage(self) -> bool:
        """Whether an OpenAI answer is to say its tokens: always, except in streams that did not ask."""
        options = self.body.get("stream_options")
        return not self.stream or bool(isinstance(options, Mapping) and options.get("include_usage"))

    @property
    def choices(self) -> int:
        """How many alternatives are asked for: `n`, for each prompt of a completion."""
        wanted = self.body.get("n")
        prompts = len(self.turns) if self.operation == "text_completion" else 1
        return prompts * (wanted if isinstance(wanted, int) and wanted > 0 else 1)

    @property
    def attempt(self) -> int:
        """Which attempt of the client's this is, from 1, as the OpenAI SDK counts its retries."""
        retries = self.headers.get("x-stainless-retry-count", "0")
        return 1 + int(retries) if retries.isdecimal() else 1

    @property
    def session(self) -> str | None:
        """Who asks, by the body or else by the header `x-session-id`.

        In the body it is `metadata.session_id`, Anthropic's `metadata.user_id`, Gemini's
        `labels.session_id`, or `user`. It comes first: the header may be the work of the telemetry
        to be checked.
        """
        named = (
            found.get(name) for place, name in _CALLERS if isinstance(found := self.body.get(place), Mapping)
        )
        said = next(filter(None, named), None) or self.body.get("user")
        found_in_header = self.headers.get(semconv.HEADER_SESSION)
        return str(said) if said else found_in_header

    @property
    def text(self) -> str:
        """The text of the last user message, or of the last input to embed or to complete."""
        users = [turn.text for turn in self.turns if turn.role == "user"]
        return users[-1] if users else ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """What is to be embedded, one text each; token lists become the text of their numbers."""
        return tuple(turn.text for turn in self.turns)

    @property
    def prompt_tokens(self) -> int:
        """The prompt's size by the fake server's count: its words, and four for each message."""
        if self.operation in {"embeddings", "text_completion"}:
            return sum(count_tokens(turn.text) for turn in self.turns)
        return conversation_tokens(self.turns)


def count_tokens(text: str) -> int:
    """The tokens of `text` by the fake server's count: one for each word."""
    return len(text.split())


def conversation_tokens(turns: Sequence[Turn]) -> int:
    """The tokens of a conversation by the same count: its words, and four for each message."""
    return sum(count_tokens(turn.text) + _TOKENS_PER_MESSAGE for turn in turns)


def message_turns(body: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The turns of `messages`, as OpenAI and Anthropic have them.

    Raises:
        BadRequestError: there are none, or they are no objects.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("Missing required parameter: 'messages'.")
    if not all(isinstance(message, dict) for message in messages):
        raise BadRequestError("Invalid type for 'messages': expected an array of objects.")
    return tuple(Turn(str(one.get("role")), content_text(one.get("content"))) for one in messages)


def input_turns(given: Any, name: str) -> tuple[Turn, ...]:
    """The turns of a text, a list of texts, a list of tokens or a list of those, in the member `name`.

    Raises:
        BadRequestError: it is none of them.
    """
    if not isinstance(given, str | list) or not given:
        raise BadRequestError(f"Missing required parameter: '{name}'.")
    if isinstance(given, str):
        return (Turn("user", given),)
    if not all(isinstance(item, str | int | list) for item in given):
        raise BadRequestError(f"Invalid type for '{name}': expected texts or lists of tokens.")
    if all(isinstance(token, int) for token in given):
        return (Turn("user", " ".join(map(str, given))),)
    return tuple(Turn("user", item if isinstance(item, str) else _joined(item)) for item in given)


def content_text(content: Any) -> str:
    """The text of a message's content: itself, or the texts of its parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, Mapping)]
    return " ".join(text for text in texts if isinstance(text, str))


def _joined(tokens: Any) -> str:
    return " ".join(map(str, tokens)) if isinstance(tokens, Sequence) else str(tokens)
