"""A model behind a door: it can be asked to choose, and neither its weights nor its name are seen.

model.npz beside it is made by make_model.py, so that this runs anywhere. gpu/interface.py has the
same functions for a language model.
"""

import numpy as np

_MODEL = dict(np.load("model.npz"))
_NUMBERS = {str(word): number for number, word in enumerate(_MODEL["words"])}


def _scores(pairs: list[tuple[str, str]]) -> np.ndarray:
    """The network: how good each word is in its place, (pairs, 2)."""
    unknown = sorted({word for pair in pairs for word in pair} - _NUMBERS.keys())
    if unknown:
        raise ValueError(f"words that the model does not know: {', '.join(unknown[:5])}")
    numbers = [[_NUMBERS[word] for word in pair] for pair in pairs]
    chosen = np.array(numbers, dtype=int).reshape(-1, 2)
    read = _MODEL["embeddings"][chosen] + _MODEL["places"]
    return np.tanh(read @ _MODEL["weights"]) @ _MODEL["out"]


@expose  # noqa: F821 - it is there when this is served
def words() -> list[str]:
    """The words that the model knows."""
    return list(_NUMBERS)


@expose  # noqa: F821
def logits(pairs: list[tuple[str, str]]) -> np.ndarray:
    """Asked for one of two words: the logits of the first and the second, (pairs, 2), float32."""
    return _scores(pairs).astype("float32")


@expose  # noqa: F821
def choose(pairs: list[tuple[str, str]], *, seed: int = 0) -> list[str]:
    """Asked for one of two words: the one that the model says, for each pair; drawn by `seed`."""
    first, second = _scores(pairs).T
    drawn = np.random.default_rng(seed).random(len(pairs)) < 1 / (1 + np.exp(second - first))
    return [pair[0] if is_first else pair[1] for pair, is_first in zip(pairs, drawn, strict=True)]
