"""Data sets as they are downloaded, and their datalists."""
