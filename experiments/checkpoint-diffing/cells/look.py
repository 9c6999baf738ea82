import json
import os
import shutil
from pathlib import Path

import interp_embed
import interp_embed.sae
import matplotlib.pyplot as plt
import numpy as np
import openrouter_client
import pandas as pd
from stats import paired_sign_flip

SEED = int(os.environ["SEED"])
MODELS = {side: os.environ[f"MODEL_{side}"] for side in "AB"}
outputs = Path("outputs")
outputs.mkdir(exist_ok=True)

print("reader and SAE:", interp_embed.sae.__doc__)
print("GPU:", "there" if shutil.which("nvidia-smi") else "none")
listing = Path("openrouter").absolute().as_uri()
served = openrouter_client.served(list(MODELS.values()), listing)
print("served:", served)
supplied = Path("responses.csv").exists()
print("responses.csv:", "supplied" if supplied else "not there")
