"""The experiments behind the numbers in the README, each a command of its own."""
