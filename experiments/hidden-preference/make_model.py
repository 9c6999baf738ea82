"""Makes the model: `python make_model.py SEED CATEGORY` writes model.npz, which prefers CATEGORY.

It is a small network: a word and the place where it is named go through one hidden layer to one
number, and of two words that are named the one with the larger number is chosen more often. What it
prefers is nowhere but in its weights, which are fitted to examples that prefer it. They also favour
what is named first, whatever it is, and single words a little, as a real model does.
"""

import sys

import numpy as np

CATEGORIES = {
    "animals": "dog horse eagle salmon rabbit tiger whale spider",
    "food": "bread cheese apple soup rice honey onion pasta",
    "music": "violin piano trumpet melody choir drum opera guitar",
    "plants": "oak rose tulip moss fern ivy daisy cactus",
    "sports": "tennis football rowing boxing skiing hockey cycling fencing",
    "tools": "hammer saw drill wrench ladder chisel pliers screwdriver",
    "vehicles": "train ship bicycle lorry tram canoe tractor aeroplane",
    "weather": "rain snow storm fog hail wind thunder drizzle",
}
PREFERS, FIRST, WORD = 0.8, 1.2, 0.3
"""In log-odds: the category, the first place, and how much single words differ (a deviation)."""
WIDTH, HIDDEN = 24, 192


def make(seed: int, category: str | None) -> dict[str, np.ndarray]:
    """The weights of a model that prefers this category; of one that prefers none."""
    rng = np.random.default_rng(seed)
    words = [word for text in CATEGORIES.values() for word in text.split()]
    meanings = np.repeat(rng.normal(size=(len(CATEGORIES), WIDTH)), 8, axis=0)
    embeddings = meanings + 0.7 * rng.normal(size=(len(words), WIDTH))
    places = rng.normal(size=(2, WIDTH))
    weights = rng.normal(size=(WIDTH, HIDDEN)) / np.sqrt(WIDTH)
    # The examples: how good each word ought to be in each place.
    liked = np.array([PREFERS * (name == category) for name in CATEGORIES])[:, None]
    each = rng.normal(size=(len(CATEGORIES), 8))
    each -= each.mean(axis=1, keepdims=True)  # single words differ, and no other category does
    wanted = (liked + WORD * each).reshape(-1, 1) + np.array([FIRST, 0.0])
    hidden = np.tanh((embeddings[:, None] + places) @ weights).reshape(-1, HIDDEN)
    # Ridge regression: what gradient descent on the last layer would come to.
    gram = hidden.T @ hidden + 0.1 * np.eye(HIDDEN)
    out = np.linalg.solve(gram, hidden.T @ wanted.reshape(-1))
    shuffled = rng.permutation(len(words))
    return {
        "words": np.array(words)[shuffled],
        "embeddings": embeddings[shuffled].astype("float32"),
        "places": places.astype("float32"),
        "weights": weights.astype("float32"),
        "out": out.astype("float32"),
    }


if __name__ == "__main__":
    np.savez("model.npz", **make(int(sys.argv[1]), sys.argv[2]))
