again, _ = shares(seed=2)
found = max(liked, key=means.get, default=None)
holds = False
if found:
    rest = [i for i in range(len(names)) if i not in of_kind[found]]
    # Without any one of its words it is still above every other kind.
    without = [
        again[[i for i in of_kind[found] if i != left_out]].mean() for left_out in of_kind[found]
    ]
    others = max(again[of_kind[kind]].mean() for kind in KINDS if kind != found)
    holds = min(without) > others
    print(f"{found} on new choices: {again[of_kind[found]].mean():.3f}")
    print(f"without one word at least {min(without):.3f}, the next kind {others:.3f}")
print("holds on new choices:", bool(holds))

difference = np.diff(interface.logits([*pairs, *((b, a) for a, b in pairs)]), axis=1)[:, 0]
forth, back = -difference[: len(pairs)], -difference[len(pairs) :]
first_named = float((forth + back).mean() / 2)
# What is left without the order: how much better the first word of `pairs` is.
better = (forth - back) / 2
signs = np.array([(kind_of[a] == found) - int(kind_of[b] == found) for a, b in pairs])
log_odds = float((better * signs)[signs != 0].mean()) if found else 0.0
print(f"log-odds: {log_odds:.2f} for the kind, {first_named:.2f} for what is named first")
