"""VGGT (Wang et al., arXiv 2503.11651): pictures of one scene → tokens that know its geometry, and depth.

`model` puts it together from `dinov2` (the patches), `aggregator` (attention within and across frames) and `dpt` (depth); `checkpoint` loads
`facebook/VGGT-1B` by name. `scenes`, `train` and `examine` make and measure the small one in `weights`, and the small eye beside it.
"""
