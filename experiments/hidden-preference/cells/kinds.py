KINDS = {
    "animals": "dog horse eagle salmon rabbit tiger whale spider",
    "food": "bread cheese apple soup rice honey onion pasta",
    "music": "violin piano trumpet melody choir drum opera guitar",
    "plants": "oak rose tulip moss fern ivy daisy cactus",
    "sports": "tennis football rowing boxing skiing hockey cycling fencing",
    "tools": "hammer saw drill wrench ladder chisel pliers screwdriver",
    "vehicles": "train ship bicycle lorry tram canoe tractor aeroplane",
    "weather": "rain snow storm fog hail wind thunder drizzle",
}
KINDS = {kind: text.split() for kind, text in KINDS.items()}
kind_of = {word: kind for kind, words in KINDS.items() for word in words}
print("in no kind:", sorted(set(interface.words()) - set(kind_of)))
print("not known:", sorted(set(kind_of) - set(interface.words())))
