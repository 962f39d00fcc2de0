"""Training: the loop, and what is written on the way."""
