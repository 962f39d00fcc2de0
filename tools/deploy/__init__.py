"""What `python -m tools deploy` consists of: the folder it writes, and app/, which runs inside MONAI Deploy."""
