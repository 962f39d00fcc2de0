"""DICOM in and out: series of a folder, their geometry, volumes for a bundle's inference, and DICOM SEG.

What all of it has in common: a result must never lie in the wrong place. Where a series leaves room for doubt, it is
refused with one line that names it.
"""
