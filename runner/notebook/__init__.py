r"""The notebook as a fold over the journal: lines in, a valid .ipynb out.

The sandbox folds its own journal as it grows, the record folds the lines it
pulled, and both come to the same bytes. Needs only the standard library.

    streams.py   the text of one stream output: live `\r` and `\b`, bounded
    outputs.py   one output: a kernel message in nbformat's shape, and its JSON
    cell.py      one cell: its state, its bounded list of outputs, its JSON
    fold.py      Notebook: which line changes which cell
"""

from runner.notebook.cell import Cell
from runner.notebook.fold import Notebook
from runner.notebook.streams import STREAM_CAP

__all__ = ["STREAM_CAP", "Cell", "Notebook"]
