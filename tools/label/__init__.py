"""What `label` consists of: the folder that a server works in, its environment, and `serving`, which runs inside it."""
