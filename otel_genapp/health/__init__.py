"""Health checks: what they say, when they run, and the history of uptime their results make."""
