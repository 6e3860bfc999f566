"""The benchmarks that come with the harness, one file a task family."""
