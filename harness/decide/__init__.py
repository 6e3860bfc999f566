"""How many seeds decide which claim, what that costs, and runs until all are decided, by what reports say of them."""
