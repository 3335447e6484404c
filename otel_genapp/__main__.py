"""`python -m otel_genapp` is the `otel-genapp` command."""

from __future__ import annotations

import sys

from otel_genapp.cli import main

if __name__ == "__main__":
    sys.exit(main())
