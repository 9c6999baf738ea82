import csv
import json
import math
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import subject

outputs = pathlib.Path("outputs")
outputs.mkdir(exist_ok=True)
about = subject.about()
print(about)
