"""What a bundle of strangers would run, load or write: it is read as data, and nothing of it is executed."""
