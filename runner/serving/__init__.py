"""What is copied into sandboxes so that code in one calls functions of another.

wire.py     values as JSON, and back
worker.py   imports an interface, and answers calls
remote.py   calls, for the library that stands for the interface

They run on the sandbox's Python, which may lack every package and may be older than this one: they
import nothing but the standard library, and each other as files of one directory.
"""
