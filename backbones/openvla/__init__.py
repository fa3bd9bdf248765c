"""OpenVLA (Kim et al., arXiv 2406.09246) and OpenVLA-OFT (Kim et al., arXiv 2502.19645), without remote code.

- `vision`: two timm towers side by side, and the projector.
- `prompt`: the sentence, and its token ids.
- `vlm`: towers, projector and Llama as one module whose weights are named as published.
- `weights`: finds the published files and loads them, name by name.
- `openvla`, `oft`: the two backbones.
"""
