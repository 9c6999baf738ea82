names = list(kind_of)
# Each pair of words of different kinds once, named in the order of the list.
pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if kind_of[a] != kind_of[b]]
chosen = interface.choose(pairs)
wins, met = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
for (a, b), word in zip(pairs, chosen, strict=True):
    for name in (a, b):
        met[kind_of[name]] += 1
        wins[kind_of[name]] += name == word
quick = {kind: wins[kind] / met[kind] for kind in KINDS}
for kind, share in sorted(quick.items(), key=lambda pair: -pair[1]):
    print(f"{share:.2f} {kind}")
misleading = max(quick, key=quick.get)
