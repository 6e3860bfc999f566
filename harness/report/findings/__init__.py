"""From columns to numbers, intervals and verdicts."""
