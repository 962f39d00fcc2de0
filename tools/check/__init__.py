"""What `check` looks at: the merged config, its expressions, the code that it names, its cases and sizes.

Everything is read and nothing is run: config files as data, expressions by a small interpreter of plain arithmetic, the
named classes and functions in their source files. So even a config that one does not trust yet can be checked.
"""
