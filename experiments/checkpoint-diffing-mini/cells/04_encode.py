encoded = reader.encode(list(responses.response))
per_token = np.concatenate([activations for _, activations in encoded])
tokens = pd.DataFrame(
    [(document, word) for document, (words, _) in enumerate(encoded) for word in words],
    columns=["document", "word"],
)

print(f"{len(tokens)} tokens, {tokens.word.nunique()} different words")
print(f"features that ever fire: {(per_token > 0).any(axis=0).sum()} of {per_token.shape[1]}")
print(f"features active on a token, on average: {(per_token > 0).sum(axis=1).mean():.1f}")
