"""The reader model and its sparse autoencoder (SAE): text to 256 feature activations per token.

The reader turns a token into a 64-dimensional state: its embedding, some of its
neighbours' and of its position. The SAE's encoder turns a state into features.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from toy import tokens

NEIGHBOURS = 0.12  # share of each neighbour's embedding in a token's state


@dataclass(frozen=True)
class Reader:
    """Reader and SAE weights. Row 0 of the embeddings is for words the reader does not know."""

    vocabulary: dict[str, int]
    embeddings: np.ndarray  # (vocabulary, 64)
    positions: np.ndarray  # (period, 64)
    encoder: np.ndarray  # (64, 256)
    bias: np.ndarray  # (256,)

    @classmethod
    def load(cls, reader: str | Path, sae: str | Path) -> "Reader":
        """Read both weight files (.npz)."""
        with np.load(reader) as r, np.load(sae) as s:
            return cls(
                {str(word): row for row, word in enumerate(r["vocabulary"])},
                r["embeddings"].astype(np.float32),
                r["positions"].astype(np.float32),
                s["encoder"].astype(np.float32),
                s["bias"].astype(np.float32),
            )

    def encode(self, texts: list[str]) -> list[tuple[list[str], np.ndarray]]:
        """Return each text's tokens and their activations: (tokens, features), never negative."""
        words = [tokens(text) for text in texts]
        states = np.concatenate([self._states(text) for text in words])
        # One product for all: many small ones keep every core of the machine spinning.
        activations = np.maximum(states @ self.encoder + self.bias, 0)
        ends = np.cumsum([len(text) for text in words])
        return list(zip(words, np.split(activations, ends[:-1]), strict=True))

    def _states(self, words: list[str]) -> np.ndarray:
        own = self.embeddings[[self.vocabulary.get(word, 0) for word in words]]
        states = own + self.positions[np.arange(len(words)) % len(self.positions)]
        states[1:] += NEIGHBOURS * own[:-1]
        states[:-1] += NEIGHBOURS * own[1:]
        return states
