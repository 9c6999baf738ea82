rng = np.random.default_rng(0)
plain = interface.activations(SENTENCES)
differences = [
    interface.activations([change(text) for text in SENTENCES]) - plain
    for change in PROPERTIES.values()
]
largest = []
for _ in range(500):
    # Had the properties no effect, the sides of a pair could be exchanged.
    signs = rng.choice([-1.0, 1.0], size=len(SENTENCES))[:, None]
    errors = [(signs * d).std(axis=0, ddof=1) / np.sqrt(len(SENTENCES)) for d in differences]
    tops = [
        ((signs * d).mean(axis=0) / (e + 0.05)).max()
        for d, e in zip(differences, errors, strict=True)
    ]
    largest.append(max(tops))
print(f"by chance, 95 of 100 are below {np.quantile(largest, 0.95):.1f}")
separation = float(found[best][feature])
print(f"seen: {separation:.1f}")
