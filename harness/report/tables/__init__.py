"""Tables for people, programs and papers."""
