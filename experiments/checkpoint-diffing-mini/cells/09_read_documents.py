def passages(feature, count=4):
    """Different sentences in which a feature peaks, on the side that has more of it."""
    side = "B" if diff.difference[feature] > 0 else "A"
    documents = np.flatnonzero((responses.checkpoint == side) & active[:, feature])
    found = {}
    for document in documents[np.argsort(-pooled[documents, feature])]:
        sentences = re.split(r"(?<=[.!?]) ", responses.response[document])
        peak = max(sentences, key=lambda sentence: reader.encode(sentence)[1][:, feature].max())
        found.setdefault(peak, document)
        if len(found) == count:
            break
    return [
        f"{side}, prompt {responses.prompt_id[document]}: {peak}"
        for peak, document in found.items()
    ]


unlabelled = changed.index[changed.label.isna()]
print(f"reading documents for {len(unlabelled)} features without a label")
for feature in unlabelled:
    print(f"\nfeature {feature}, {diff.difference[feature]:+.2f}")
    print("\n".join(f"  {passage}" for passage in passages(feature)))
