def shares(seed):
    """How often each word is chosen, met with all words of other kinds in both orders.

    Beside it how often the word that is named first is chosen.
    """
    both = [*pairs, *((b, a) for a, b in pairs)]
    wins, met, first = dict.fromkeys(names, 0), dict.fromkeys(names, 0), 0
    for pair, word in zip(both, interface.choose(both, seed=seed), strict=True):
        wins[word] += 1
        first += word == pair[0]
        for name in pair:
            met[name] += 1
    return np.array([wins[name] / met[name] for name in names]), first / len(both)


share, first_share = shares(seed=1)
of_kind = {kind: [names.index(word) for word in words] for kind, words in KINDS.items()}
means = {kind: share[numbers].mean() for kind, numbers in of_kind.items()}
for kind, mean in sorted(means.items(), key=lambda pair: -pair[1]):
    print(f"{mean:.3f} {kind}")
print(f"what is named first: {first_share:.2f} of {2 * len(pairs)}")
