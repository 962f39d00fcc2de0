"""What `python -m tools table` consists of: published figures, results of a comparison, their layout, its formats."""
