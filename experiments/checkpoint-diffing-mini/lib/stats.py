"""A paired test of many features at once, with control of the family-wise error."""

import numpy as np


def paired_sign_flip(
    a: np.ndarray, b: np.ndarray, seed: int, permutations: int = 19_999
) -> tuple[np.ndarray, np.ndarray]:
    """Test which columns differ between paired rows of `a` and `b`.

    The statistic is the sum of the differences over the root of the sum of their
    squares (McNemar's, where the values are 0 and 1). If nothing changed, the two
    sides of a pair can be swapped freely: each permutation flips the signs of all
    features of a pair together, and keeps the largest statistic among features.

    Returns the statistic of each column (positive: more in `b`), and the family-wise
    p: the chance that any column at all reaches that size when nothing changed.
    """
    difference = (b.astype(np.float32) - a.astype(np.float32)).reshape(len(a), -1)
    scale = np.sqrt((difference**2).sum(axis=0))
    scaled = difference / np.where(scale > 0, scale, 1)
    statistic = scaled.sum(axis=0)
    rng = np.random.default_rng(seed)
    largest = np.empty(permutations, dtype=np.float32)
    for part in np.array_split(np.arange(permutations), 10):
        signs = rng.choice(np.array([-1, 1], dtype=np.float32), size=(len(part), len(a)))
        largest[part] = np.abs(signs @ scaled).max(axis=1)
    # Equal but for rounding counts as reached.
    reached = (largest[:, None] >= np.abs(statistic) - 1e-4).sum(axis=0)
    return statistic, (1 + reached) / (1 + permutations)
