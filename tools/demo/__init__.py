"""Everything on a made-up data set."""
