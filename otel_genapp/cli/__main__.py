"""`python -m otel_genapp.cli`: the command where its script is not on the path."""

from otel_genapp.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
