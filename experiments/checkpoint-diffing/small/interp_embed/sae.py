"""A reader and its SAE, made from the texts that are to be read."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

WIDTH = 64
NEIGHBOURS = 0.25  # share of each neighbour's embedding in a token's state


@cache
def _embedding(word: str) -> np.ndarray:
    drawn = np.random.default_rng(zlib.crc32(word.encode())).standard_normal(WIDTH)
    return drawn / np.linalg.norm(drawn)


def _read(text: str) -> tuple[list[str], np.ndarray]:
    """The reader: the tokens of a text, and a state of length one for each."""
    tokens = re.findall(r"[a-z']+|[.,!?]", text.lower())
    if not tokens:
        return ["."], _embedding(".")[None]
    own = np.array([_embedding(token) for token in tokens])
    states = own.copy()
    states[1:] += NEIGHBOURS * own[:-1]
    states[:-1] += NEIGHBOURS * own[1:]
    return tokens, states / np.linalg.norm(states, axis=1, keepdims=True)


@dataclass(frozen=True)
class SmallSAE:
    """A dictionary of directions, learned so that each state is near one of them."""

    directions: np.ndarray  # (features, width), each of length one

    @classmethod
    def fit(cls, texts: Sequence[str], features: int = 256, seed: int = 0) -> "SmallSAE":
        """Learn it: from states that are far from each other, by spherical k-means."""
        states = np.unique(np.concatenate([_read(text)[1] for text in texts]).round(6), axis=0)
        states = np.random.default_rng(seed).permutation(states)
        chosen = [states[0]]
        nearest = states @ states[0]
        while len(chosen) < min(features, len(states)):
            chosen.append(states[nearest.argmin()])
            nearest = np.maximum(nearest, states @ chosen[-1])
        directions = np.array(chosen)
        for _ in range(5):
            owner = (states @ directions.T).argmax(axis=1)
            for feature in range(len(directions)):
                if (mine := states[owner == feature]).size:
                    total = mine.sum(axis=0)
                    directions[feature] = total / np.linalg.norm(total)
        return cls(directions)

    def encode(self, text: str) -> tuple[list[str], np.ndarray]:
        """Tokens of a text, and the features' activations on each: never negative."""
        tokens, states = _read(text)
        return tokens, np.maximum(4.0 * states @ self.directions.T - 2.0, 0.0)
