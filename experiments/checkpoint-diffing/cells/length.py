# The same comparison among responses of similar length: Cochran, Mantel and Haenszel.
FAR = 5.0  # standard errors: responses of one bin still differ in length a little
bins = pd.qcut(responses.response.str.split().str.len(), 10, labels=False, duplicates="drop")


def among_similar(feature):
    """Difference in share and its distance from 0 in standard errors, within lengths."""
    shown, in_b = active[:, feature], (responses.side == "B").to_numpy()
    surplus = variance = weighted = weights = 0.0
    for one in np.unique(bins):
        here = (bins == one).to_numpy()
        n, n_b, m = here.sum(), (here & in_b).sum(), (here & shown).sum()
        n_a = n - n_b
        if min(n_a, n_b) == 0:
            continue
        m_b = (here & in_b & shown).sum()
        surplus += m_b - n_b * m / n
        variance += n_a * n_b * m * (n - m) / (n * n * (n - 1))
        weighted += n_a * n_b / n * (m_b / n_b - (m - m_b) / n_a)
        weights += n_a * n_b / n
    far = surplus / np.sqrt(variance) if variance > 0 else 0.0
    return weighted / weights, far


within = pd.DataFrame(
    [among_similar(feature) for feature in passed.index],
    index=passed.index,
    columns=["similar_length", "errors"],
)
stays = (within.errors.abs() >= FAR) & (within.errors * passed.difference > 0)
gone = passed.index[~stays]
print(f"{stays.sum()} stay among responses of similar length, {len(gone)} do not")
