"""What differs between runs. Pure: records in, differences out.

steps.py    what was carried out in a sandbox, out of its journal
outputs.py  two cells' outputs
runs.py     several runs beside each other
"""
