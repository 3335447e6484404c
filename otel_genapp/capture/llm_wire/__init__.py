"""LLM calls caught on the wire: any SDK over httpx or httpx2 is seen, whoever wrote it.

routes     which requests are calls to a model, by the path's end
asked      what the request says: model, stream, tools
exchange   one HTTP attempt: bytes pass at once, a copy is kept as far as it is needed
tape       what is kept, and which parts of it are worth parsing
reading    what an answer says; a module for each wire format: openai, responses, anthropic,
           gemini, cohere, ollama, yandex, bedrock
call       the logical call: its span, or the span of whoever holds it already
retries    an SDK's attempts are one call
reaper     calls nobody ends
"""
