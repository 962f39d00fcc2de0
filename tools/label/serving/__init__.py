"""What runs inside MONAI Label's server; the only part of the project that imports monailabel.

`app` is MONAI Label's app, `tasks` its inference and training. `routes` and `proxy` are the requests that are served,
`http` what stands in front of them. `access`, `requests`, `archives`, `streams`, `choosing` and `features` are what
they decide, without MONAI Label.
"""
