"""Stands in for torchvision, whose builds do not load beside every build of torch; MONAI Label names two functions."""
