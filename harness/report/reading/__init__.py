"""From run directories to checked columns."""
