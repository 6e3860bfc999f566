"""Section 2 of the paper: tasks, models, the (w, phi) partition, objectives, the oracle, Proposition 1."""
