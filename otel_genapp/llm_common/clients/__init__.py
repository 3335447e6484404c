"""The old modules of HTTP clients, one name each; `otel_genapp.clients` describes them."""
