"""What there is to learn on a GPU, part by part: ``python -m benchmarks.suites.gpu info correct --out DIR``."""
