"""What the outside may ask of a running telemetry, over HTTP."""
