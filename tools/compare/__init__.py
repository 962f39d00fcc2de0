"""What `python -m tools compare` consists of.

A comparison is a folder. OUTPUT/METHOD/seedN holds one run, all that it wrote, and two small files that say what it is
(run.json, see `plan`) and how far it is (state.json, see `state`). Nothing else is remembered, so that a comparison can
go on after anything.
"""
