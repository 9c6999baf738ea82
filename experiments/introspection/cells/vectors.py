CONCEPTS = {
    "ocean": ["wave", "tide", "salt", "harbour"],
    "lightning": ["storm", "thunder", "flash", "cloud"],
    "bread": ["flour", "oven", "dough", "crust"],
    "mirror": ["glass", "reflection", "polish", "frame"],
    "clock": ["hour", "minute", "pendulum", "dial"],
    "honey": ["bee", "hive", "nectar", "sweet"],
    "winter": ["snow", "ice", "frost", "cold"],
    "desert": ["sand", "dune", "camel", "heat"],
    "music": ["melody", "violin", "rhythm", "song"],
    "garden": ["rose", "soil", "hedge", "lawn"],
    "silver": ["metal", "coin", "jewel", "mine"],
    "forest": ["oak", "moss", "trail", "pine"],
}
NAMES = list(CONCEPTS)
FRAMES = ["tell me about the {}", "a picture of the {}", "what comes to mind is {}"]
LAYERS = list(range(about["layers"]))


def mean_activations(layer, frames):
    """For each concept the mean over texts that end in a word about it."""
    words = [[name, *more] for name, more in CONCEPTS.items()]
    texts = [frame.format(word) for group in words for word in group for frame in frames]
    found = np.asarray(subject.activations(texts, layer))
    return found.reshape(len(NAMES), -1, found.shape[1]).mean(axis=1)


vectors = {}
for layer in LAYERS:
    means = mean_activations(layer, FRAMES)
    raw = means - means.mean(axis=0)
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    # All of one length, so that a strength means the same for each of them.
    vectors[layer] = raw / norms * norms.mean()
    new = mean_activations(layer, ["we spoke of the {}"])
    right = ((new - new.mean(axis=0)) @ vectors[layer].T).argmax(axis=1) == np.arange(len(NAMES))
    print(f"layer {layer}: length {norms.mean():.2f}, names new texts right: {right.mean():.0%}")
print(f"{len(NAMES)} concepts, {len(LAYERS)} layers")
