"""`kind: vlm`: a published vision-language model as the backbone, whichever its family. See `model`."""
