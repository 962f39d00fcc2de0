"""Custom components of the bundles: what MONAI and ignite lack for semi-supervised segmentation with DCA."""
