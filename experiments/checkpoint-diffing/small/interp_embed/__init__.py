"""A small stand-in for interp_embed: a dataset of texts, encoded on the processor in a moment.

It has what the experiment uses of it, under the same names: `Dataset(data, sae, field)`,
`latents("max")`, `feature_labels()`, `top_documents_for_feature(feature)`,
`dataset[0].token_activations(feature)`. The reader and its SAE are `interp_embed.sae.SmallSAE`,
which is made from the texts themselves; there is no GPU, and no feature has a label.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp_embed.sae import SmallSAE


@dataclass(frozen=True)
class Document:
    """One text: its tokens, and how strongly each feature fires on each: (tokens, features)."""

    tokens: list[str]
    activations: np.ndarray

    def token_activations(self, feature: int) -> str:
        """The text, with << >> around the tokens on which a feature fires."""
        marks = self.activations[:, feature] > 0.5
        return " ".join(
            f"<<{token}>>" if mark else token
            for token, mark in zip(self.tokens, marks, strict=True)
        )


class Dataset:
    """Texts in a column of a table, encoded when it is made."""

    def __init__(self, data: pd.DataFrame, sae: SmallSAE, field: str = "text") -> None:
        """Encode them."""
        self.sae = sae
        self.rows = [Document(*sae.encode(text)) for text in data[field]]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Document:
        return self.rows[number]

    def latents(self, aggregation: str = "max") -> np.ndarray:
        """For each document and feature the largest activation: (documents, features)."""
        if aggregation != "max":
            raise ValueError(f"aggregation: this stand-in has max, found {aggregation!r}")
        return np.array([row.activations.max(axis=0) for row in self.rows])

    def feature_labels(self) -> dict[int, str]:
        """What labellers made of the features: none has a label."""
        return {}

    def top_documents_for_feature(self, feature: int, k: int = 10) -> list[str]:
        """The documents in which a feature is strongest, as text with << >>."""
        strength = self.latents()[:, feature]
        order = np.argsort(-strength, kind="stable")[:k]
        return [self.rows[n].token_activations(feature) for n in order if strength[n] > 0]
