"""Synthetic anatomies, one module each.

An anatomy has NAME, MODALITY, LABELS, SIZE (default, voxels), SMALLEST (voxels), ORIENTATION (signs of the affine's
diagonal), `spacing(size)` in mm, and `draw(size, rng)`, which yields one (phase, image, label) per phase of a patient.
"""
