# The same features: in how many responses do they fire, and on how many tokens when they do?
fires = np.array([(activations > 0.5).sum(axis=0) for _, activations in encoded])
for feature in quick.index[:8]:
    a, b = fires[is_a, feature], fires[~is_a, feature]
    each = [f"{side[side > 0].mean():.1f}" if side.any() else "-" for side in (a, b)]
    print(
        f"feature {feature:3d}: in {(a > 0).mean():4.0%} of A, {(b > 0).mean():4.0%} of B; "
        f"tokens in each: {each[0]} and {each[1]}"
    )
