"""Records in an S3-compatible store, through fsspec.

objects.py    the folder of one run in a bucket: list, read, write; errors in our words
segments.py   a file that only grows as numbered objects, and back (pure)
store.py      Store: one run's record there, copied up and down, each time only what is new
uploader.py   Uploader: a thread that copies a record up while it grows
"""

from runner.store.objects import Keys, open_objects
from runner.store.store import Store, open_store
from runner.store.uploader import Uploader

__all__ = ["Keys", "Store", "Uploader", "open_objects", "open_store"]
