"""Clocks, memory and the fingerprint of the machine."""
