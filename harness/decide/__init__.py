"""How many seeds decide which claim, what that costs, and runs until all are decided: above reports, which they read."""
