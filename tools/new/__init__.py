"""`python -m tools new`: a bundle for any data set."""
