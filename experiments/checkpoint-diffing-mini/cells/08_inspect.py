def characteristic_words(feature, count=6):
    """The words on which a feature is strongest, among those seen three times or more."""
    table = tokens.assign(activation=per_token[:, feature]).groupby("word").activation
    strength = table.mean()[table.size() >= 3]
    return list(strength[strength > 0.5].sort_values(ascending=False).index[:count])


words = {feature: characteristic_words(feature) for feature in changed.index}
print(f"words on which {len(changed)} features fire most")
for feature, row in changed.iterrows():
    label = row.label if isinstance(row.label, str) else "(no label)"
    print(f"feature {feature}, {row.difference:+.2f}, {label}: {', '.join(words[feature])}")
