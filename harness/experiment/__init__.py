"""One run: set up, trained, recorded, evaluated, summed up; and the key of what determines its numbers."""
