"""Where records are kept: what sessions, totals and reports are folds of."""
