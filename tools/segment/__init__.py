"""What `python -m tools segment` consists of: the cases, the bundle that segments them, and what is written of each."""
