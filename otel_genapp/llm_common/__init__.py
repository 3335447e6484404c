"""The names of the package `llm_common` as it was called, with telemetry of today behind them.

Coming from there, `llm_common` becomes `otel_genapp.llm_common` in the imports and nothing else
changes: `otel_genapp.llm_common.prometheus`, `….clients.llm_http_client`, `….clients.auth_client`.
"""
