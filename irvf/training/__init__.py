"""Training of the shipped weights. Needs torch."""
