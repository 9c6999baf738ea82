def sentence_of_peak(document, feature):
    """The sentence of a response that has the token on which the feature is strongest."""
    sentences = re.split(r"(?<=[.!?]) ", responses.response[document])
    ends = np.cumsum([len(tokenise(sentence)) for sentence in sentences])
    peak = encoded[document][1][:, feature].argmax()
    return sentences[np.searchsorted(ends, peak, side="right")]


def passages(feature, count=4):
    """Different sentences in which a feature peaks, on the side that has more of it."""
    side = "B" if diff.difference[feature] > 0 else "A"
    documents = np.flatnonzero((responses.checkpoint == side) & active[:, feature])
    found = {}
    for document in documents[np.argsort(-pooled[documents, feature])]:
        sentence = sentence_of_peak(document, feature)
        found.setdefault(sentence, f"{side}, prompt {responses.prompt_id[document]}: {sentence}")
    return list(found.values())[:count]


unlabelled = changed.index[changed.label.isna()]
print(f"reading documents for {len(unlabelled)} features without a label")
for feature in unlabelled:
    print(f"\nfeature {feature}, {diff.difference[feature]:+.2f}")
    print("\n".join(f"  {passage}" for passage in passages(feature)))
