SENTENCES = [
    "the train arrives at the station",
    "my sister paints the old house",
    "the doctor answers every letter",
    "a small dog sleeps under the table",
    "the students read the long book",
    "our neighbour sells fresh bread",
    "the river flows through the valley",
    "he plays the piano in the evening",
    "the committee accepts the proposal",
    "she carries the heavy box upstairs",
]
PROPERTIES = {
    "negation": lambda text: f"{text} and nothing else, not ever",
    "question": lambda text: f"is it true that {text}",
    "number": lambda text: f"{text} seven or eight times",
    "past": lambda text: f"yesterday {text} as it was",
    "politeness": lambda text: f"please tell me kindly that {text}",
}


def separations(texts):
    """For each property the paired differences' mean in standard errors, by feature."""
    plain = interface.activations(texts)
    found = {}
    for name, change in PROPERTIES.items():
        differences = interface.activations([change(text) for text in texts]) - plain
        error = differences.std(axis=0, ddof=1) / np.sqrt(len(texts))
        # Two features that differ by the same amount in each pair are not infinitely sure.
        found[name] = differences.mean(axis=0) / (error + 0.05)
    return found


found = separations(SENTENCES)
for name, values in found.items():
    print(f"{name}: feature {values.argmax()} at {values.max():.1f}")
best = max(found, key=lambda name: found[name].max())
feature = int(found[best].argmax())
print(f"best: {best}, feature {feature}")
