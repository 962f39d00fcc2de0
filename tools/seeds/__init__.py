"""Scores over several runs."""
