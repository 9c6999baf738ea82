NEW = [
    "the baker opens the shop",
    "they climb the mountain",
    "a cloud covers the sun",
    "we cook soup",
]
change = PROPERTIES[best]
with_it = interface.activations([change(text) for text in NEW])[:, feature]
without = interface.activations(NEW)[:, feature]
print(with_it, without)
words = ["never", "table", "nothing", "green", "cannot", "walk", "seven", "please"]
print(list(interface.top_words(feature, words, count=3)))
print("holds on new sentences:", bool((with_it > without + 0.5).all()))
