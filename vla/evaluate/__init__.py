"""Closed-loop evaluation: trials on fixed seeds, run in parallel, with intervals."""
