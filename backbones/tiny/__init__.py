"""`kind: tiny`: a vision-language backbone small enough to train on a laptop's CPU. See `model`."""
