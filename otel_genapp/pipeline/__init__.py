"""From finished spans to records: sample, normalise any dialect, count once, hand to the folds."""
