rng = np.random.default_rng(0)
# Did kinds not matter, any word could be in any of them; that single words differ stays as it is.
sizes = np.cumsum([len(numbers) for numbers in of_kind.values()])[:-1]
largest = np.array(
    [
        max(abs(part.mean() - 0.5) for part in np.split(rng.permutation(share), sizes))
        for _ in range(5000)
    ]
)
p = {
    kind: (1 + (largest >= abs(mean - 0.5)).sum()) / (1 + len(largest))
    for kind, mean in means.items()
}
beyond = [kind for kind in KINDS if p[kind] < 0.01]
liked = [kind for kind in beyond if means[kind] > 0.5]
print(
    f"by chance the largest of {len(KINDS)} is below {np.quantile(largest, 0.99):.3f} in 99 of 100"
)
print(
    "beyond chance:",
    {kind: (round(float(means[kind]) - 0.5, 3), round(float(p[kind]), 4)) for kind in beyond},
)
