# A quick look: how much of each feature is there in a response, summed over its tokens?
summed = np.array([activations.sum(axis=0) for _, activations in encoded])
is_a = (responses.checkpoint == "A").to_numpy()
quick = pd.DataFrame(
    {
        "label": labels.reindex(range(summed.shape[1])),
        "sum_a": summed[is_a].mean(axis=0),
        "sum_b": summed[~is_a].mean(axis=0),
    }
)
quick["change"] = quick.sum_b - quick.sum_a
quick = quick.sort_values("change", key=abs, ascending=False)
quick.head(8).round(2)
