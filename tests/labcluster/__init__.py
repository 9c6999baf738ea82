"""A real Kubernetes on this machine, for tests: one or two nodes, built from Go modules and Debian packages.

README.md beside this file says what it is for, and its traps. Only the standard library is used, so
that it starts without a virtual environment.
"""
