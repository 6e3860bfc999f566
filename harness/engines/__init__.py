"""The same meta-gradient, computed by different libraries."""
