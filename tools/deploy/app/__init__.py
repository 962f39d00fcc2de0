"""The app of MONAI Deploy: `deploy` copies this package, and the modules of tools/ it needs, into the app's folder."""
