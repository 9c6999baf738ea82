import re


def fires_on(feature, count=3):
    """The words on which a feature fires most often."""
    text = " ".join(dataset.top_documents_for_feature(feature, k=40))
    found = pd.Series(re.findall(r"<<(.+?)>>", text)).value_counts()
    return list(found.index[:count])


def passages(features, side, count=2):
    """Sentences of a side on which one of the features fires."""
    found = []
    for number in np.flatnonzero((responses.side == side) & active[:, features].any(axis=1)):
        for sentence in re.split(r"(?<=[.!?]) ", responses.response[number]):
            if (sae.encode(sentence)[1][:, features] > THRESHOLD).any() and sentence not in found:
                found.append(sentence)
                break
        if len(found) == count:
            break
    return found


# Features that fire in the same responses are one habit.
habits = []
for feature in passed.index[stays]:
    together = [
        habit
        for habit in habits
        if any(
            (active[:, feature] & active[:, other]).sum()
            > 0.5 * (active[:, feature] | active[:, other]).sum()
            for other in habit
        )
    ]
    habits = [habit for habit in habits if habit not in together]
    habits.append([feature, *(other for habit in together for other in habit)])
print(f"{len(habits)} habits")
for habit in habits:
    print(f"\n{diff.difference[habit[0]]:+.2f}", [fires_on(feature) for feature in habit])
    for side in "AB":
        for number in np.flatnonzero((responses.side == side) & active[:, habit].all(axis=1))[:3]:
            print(f"  {side}: {dataset[number].token_activations(habit[0])}")
