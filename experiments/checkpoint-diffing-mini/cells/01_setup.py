import json
import os
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from reader import Reader
from stats import paired_sign_flip
from toy import Checkpoint
from toy import tokens as tokenise

SEED = int(os.environ.get("SEED", "0"))
outputs = Path("outputs")
outputs.mkdir(exist_ok=True)

checkpoints = {side: Checkpoint.load(f"data/checkpoint_{side.lower()}.npz") for side in "AB"}
reader = Reader.load("data/reader.npz", "data/sae.npz")
labels = pd.read_csv("data/labels.csv").set_index("feature")["label"]

print(f"seed {SEED}")
print(f"SAE: {reader.encoder.shape[1]} features on {reader.encoder.shape[0]} dimensions")
print(f"labels: {len(labels)} features have one, {reader.encoder.shape[1] - len(labels)} have none")
