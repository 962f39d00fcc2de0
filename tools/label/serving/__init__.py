"""What runs inside MONAI Label's server; the only part of the project that imports monailabel.

`app` is MONAI Label's app, `tasks` its inference and training, `http` the checks in front of it, and `requests`,
`archives` and `streams` are what they decide, without MONAI Label.
"""
