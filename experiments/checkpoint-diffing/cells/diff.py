ALPHA, THRESHOLD, FEWEST = 0.05, 0.5, 3

active = pooled > THRESHOLD
kept = np.flatnonzero(active.sum(axis=0) >= FEWEST)
print(f"{len(kept)} of {active.shape[1]} features are in {FEWEST} responses or more")

# A prompt's share of responses in which a feature is active.
keys = [responses.side, responses.prompt_id]
shares = pd.DataFrame(active[:, kept], columns=kept).groupby(keys).mean()
a, b = shares.loc["A"], shares.loc["B"]
_, p = paired_sign_flip(a.to_numpy(), b.loc[a.index].to_numpy(), seed=SEED)
labels = dataset.feature_labels()
diff = pd.DataFrame(
    {
        "label": [labels.get(feature, "") for feature in kept],
        "share_a": a.mean(),
        "share_b": b.mean(),
        "difference": b.mean() - a.mean(),
        "p": p,
    },
    index=kept,
).rename_axis("feature")
diff = diff.sort_values(["p", "difference"])
diff.round(6).to_csv(outputs / "feature_diff.csv")
passed = diff[diff.p <= ALPHA]
print(f"{len(passed)} features differ at a family-wise error of {ALPHA}")
