"""What other people bring: code that is blamed by its own lines, names of it, and values that a schema holds."""
