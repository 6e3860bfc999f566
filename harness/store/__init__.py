"""The disk: run directories, files that survive a kill, leases, and files that strangers wrote."""
