"""A bundle with its code and model as a folder and a zip."""
