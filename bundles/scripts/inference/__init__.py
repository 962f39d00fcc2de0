"""From an image to its label map: what runs the network, and the way back to the image's own grid."""
