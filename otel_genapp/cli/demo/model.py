"""How the demo's LLM behaves: a word of the customer's question decides."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace

from otel_genapp.fake_llm import Answer, Cut, ErrorStatus, Fault, LLMRequest, NoUsage, ToolCall

ORDINARY = (
    "Do you have red running shoes?",
    "I am looking for a rain jacket for the mountains",
    "Which hat keeps me warm in winter?",
    "Where is my order 1042?",
    "Has order 1007 been sent?",
    "When does order 1013 arrive?",
    "Compare the two cheapest tents for a family, please",
    "Thank you, that helps!",
    "What are your opening hours?",
)
"""Questions that end well; the catalogue does not know order 1013 and fails for 1007."""

STREAMED = ("Tell me how to care for leather boots", "Write a short greeting for a birthday present")

BUSY, OUTAGE, BROKEN, SLOW, SILENT, LEAVES = (
    "Is the summer sale on already?",
    "Can I pay with a gift card?",
    "Tell me the story of your shop",
    "How does the warranty work, in detail?",
    "What is your returns policy?",
    "Recite a poem about autumn shopping",
)
"""429 and then an answer; 500 three times; a cut stream; a long wait; no usage; the customer leaves."""

_TOPICS = {
    "sale": BUSY,
    "gift card": OUTAGE,
    "story": BROKEN,
    "warranty": SLOW,
    "returns": SILENT,
    "poem": LEAVES,
}
_SEARCHED = ("shoes", "jacket", "hat", "tent", "boots")


def answer(request: LLMRequest) -> Answer | Fault:
    """What the demo's model answers to `request`; the same request always gets the same answer."""
    told = _told(request)
    # Some time to think, 40 to 200 ms by what was asked, and the start of a long prompt from the cache.
    pondered = replace(
        told,
        delay_s=told.delay_s or 0.04 + zlib.crc32(request.text.encode()) % 160 / 1000,
        cached_tokens=request.prompt_tokens // 2 if len(request.body["messages"]) > 3 else 0,
    )
    if request.model == "gpt-5":
        return replace(pondered, reasoning_tokens=60 + len(request.text))
    return pondered


def _told(request: LLMRequest) -> Answer:
    text = request.text.lower()
    topic = next((topic for word, topic in _TOPICS.items() if word in text), None)
    if topic == BUSY and request.attempt == 1:
        return Answer(fault=ErrorStatus(429, retry_after_s=0.2, message="Rate limit reached."), delay_s=0.01)
    if topic == OUTAGE:
        return Answer(
            fault=ErrorStatus(500, retry_after_s=0, message="The model is overloaded."), delay_s=0.01
        )
    if topic == BROKEN:
        return Answer("It began in a small garage by the sea.", chunk_delay_s=0.01, fault=Cut(after_chunks=5))
    if topic == SLOW:
        return Answer("Two years on everything, five on tents; keep the receipt.", delay_s=1.8)
    if topic == SILENT:
        return Answer("Thirty days, unworn, with the receipt.", fault=NoUsage())
    if topic == LEAVES:
        return Answer("Golden leaves and paper bags, " * 20, chunk_delay_s=0.05)
    if request.body["messages"][-1].get("role") == "tool":
        return Answer(_after_tools(str(request.body["messages"][-1].get("content"))))
    if "order" in text:
        number = "".join(letter for letter in text if letter.isdigit()) or "1042"
        return Answer(tool_calls=(ToolCall("order_status", json.dumps({"order": number})),))
    wanted = next((word for word in _SEARCHED if word in text), None)
    if wanted is not None and not request.stream:
        return Answer(tool_calls=(ToolCall("search_products", json.dumps({"query": wanted})),))
    return Answer(
        f"Happy to help! About “{request.text}”: our shop is open from nine to six.", chunk_delay_s=0.005
    )


def _after_tools(found: str) -> str:
    if "error" in found:
        return "I am sorry, I cannot look that up right now. Please try again in a few minutes."
    return f"Here is what I found for you: {found}"
