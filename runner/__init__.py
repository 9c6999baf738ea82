"""Runs research experiments that an LLM agent carries out in a Jupyter notebook."""

__version__ = "0.1.0"
