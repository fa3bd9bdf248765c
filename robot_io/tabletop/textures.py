"""Patterns in shades of grey, to be coloured by whatever wears them. Pure NumPy, the same on every machine.

`TRAIN` and `TEST` are tables, walls and floors: the two share no pattern, so a test shows textures that no training scene has.
`WORN` is what unseen objects wear. Pictures are `uint8 [N, N, 3]` and tile without a seam.
"""

from __future__ import annotations

import numpy as np

N = 128
DARK = 0.55
"""Brightness of a pattern's dark parts beside its bright ones."""


def noise(seed: int, stretch: tuple[float, float], detail: float = 1.0) -> np.ndarray:
    """Cloudy noise in [0, 1], drawn out along either axis: grain, marble, felt (spectrum 1/f^detail)."""
    frequency = np.hypot(np.fft.fftfreq(N)[:, None] * stretch[0], np.fft.rfftfreq(N)[None] * stretch[1]) * N
    white = np.fft.rfft2(np.random.default_rng(seed).normal(size=(N, N)))
    cloud = np.fft.irfft2(white / np.maximum(frequency, 1) ** detail, (N, N))
    low, high = np.quantile(cloud, [0.02, 0.98])
    return np.clip((cloud - low) / (high - low), 0, 1)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Row and column as shares of the picture."""
    return np.meshgrid(np.arange(N) / N, np.arange(N) / N, indexing="ij")


def checker(n: int) -> np.ndarray:
    row, column = _grid()
    return ((row * n).astype(int) + (column * n).astype(int)) % 2 == 0


def stripes(n: int, share: float = 0.5, slant: int = 0) -> np.ndarray:
    row, column = _grid()
    return (column * n + slant * row * n) % 1 < share


def dots(n: int, radius: float = 0.3) -> np.ndarray:
    row, column = _grid()
    return np.hypot((row * n) % 1 - 0.5, (column * n) % 1 - 0.5) < radius


def plaid(n: int) -> np.ndarray:
    row, column = _grid()
    return 0.5 * ((row * n) % 1 < 0.4) + 0.5 * ((column * n) % 1 < 0.4)


def bricks(n: int, gap: float = 0.12) -> np.ndarray:
    row, column = _grid()
    across = (column * n / 2 + 0.5 * ((row * n).astype(int) % 2)) % 1
    return ((row * n) % 1 > gap) & (across > gap / 2)


def waves(n: int) -> np.ndarray:
    row, column = _grid()
    return 0.5 + 0.5 * np.sin(2 * np.pi * (n * row + 0.15 * np.sin(2 * np.pi * 3 * column)))


def lines(n: int) -> np.ndarray:
    """Thin joints between square tiles."""
    row, column = _grid()
    return ((row * n) % 1 > 0.07) & ((column * n) % 1 > 0.07)


def planks(n: int, seed: int) -> np.ndarray:
    """Boards side by side, each of its own brightness, with grain along them."""
    row, _ = _grid()
    tone = np.random.default_rng(seed).uniform(0, 1, n)[(row * n).astype(int)]
    return np.where((row * n) % 1 < 0.06, 0.0, 0.6 * tone + 0.4 * noise(seed, (8, 1)))


TRAIN = {
    "felt": noise(1, (1, 1), 0.4), "marble": noise(2, (1, 1), 1.6), "grain": noise(3, (1, 12), 1.0), "clouds": noise(4, (1, 1), 2.4),
    "waves": waves(4), "tiles": lines(4), "planks": planks(6, 5), "burlap": 0.5 * noise(6, (1, 16), 0.6) + 0.5 * noise(7, (16, 1), 0.6),
}
TEST = {
    "checker": checker(6), "stripes": stripes(6), "diagonals": stripes(5, slant=1), "dots": dots(6), "plaid": plaid(5),
    "bricks": bricks(8), "gingham": plaid(10),
}
WORN = {"checkered": checker(4), "striped": stripes(4), "spotted": dots(4), "banded": stripes(1), "speckled": noise(8, (1, 1), 0.2) > 0.6}


def picture(pattern: np.ndarray, dark: float = DARK) -> np.ndarray:
    """A pattern in [0, 1] as `uint8 [N, N, 3]`, its dark parts `dark` times as bright as its bright ones."""
    shade = 255 * (dark + (1 - dark) * pattern.astype(float))
    return np.repeat(shade.round().astype(np.uint8)[..., None], 3, axis=2)
