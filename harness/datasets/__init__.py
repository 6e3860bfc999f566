"""Readers of data sets as they lie on people's disks; nothing in here trusts a file."""
