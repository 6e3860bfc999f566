"""The project's own algorithms: one file each, no longer than what makes it different."""
