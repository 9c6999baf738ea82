"""A model behind a door: its functions can be called, its weights and its code cannot be seen.

The model is made here in a moment, so that this runs anywhere: 48 features that read a text by its
words. One of them has a meaning, which `PLANTED` says and whoever calls has to find out.
"""

import re
import zlib

import numpy as np

FEATURES = 48
PLANTED = {"feature": 29, "responds_to": "negation"}
_NEGATIONS = frozenset({"no", "not", "never", "none", "nothing", "nobody", "cannot", "without"})
_NOISE = 0.35


def _read(text: str) -> np.ndarray:
    words = re.findall(r"[a-z']+", text.lower())
    # Each word moves every feature a little, the same way each time; long texts do not more.
    moved = [
        np.random.default_rng(zlib.crc32(word.encode())).standard_normal(FEATURES) for word in words
    ]
    felt = _NOISE * np.mean(moved, axis=0) if moved else np.zeros(FEATURES)
    felt[PLANTED["feature"]] += sum(word in _NEGATIONS or word.endswith("n't") for word in words)
    return np.maximum(felt, 0.0).astype("float32")


@expose  # noqa: F821 - it is there when this is served
def about() -> dict:
    """What the model is: how many features it has."""
    return {"features": FEATURES, "reads": "English sentences"}


@expose  # noqa: F821
def activations(texts: list[str]) -> np.ndarray:
    """How strongly each feature responds to each text: (texts, features), float32, from 0 on."""
    if isinstance(texts, str):
        raise TypeError("texts: expected a list of texts, found one text")
    return np.stack([_read(text) for text in texts])


@expose  # noqa: F821
def top_words(feature: int, words: list[str], *, count: int = 5):
    """Words of a list that a feature responds to, the strongest first, one at a time."""
    strength = {word: float(_read(word)[feature]) for word in words}
    yield from sorted(strength, key=lambda word: -strength[word])[:count]
