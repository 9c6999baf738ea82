"""What a script drives a sandbox with, under the names that Seer's users know; docs/seer.md.

sandbox.py    Sandbox: started, used and ended by a script
driven.py     its run: the record, what is pulled into it, how it ended
guest.py      or a run that somebody else drives
snapshots.py  what a sandbox has, kept and put into another one
sessions.py   the notebook or the shell of a sandbox
workspace.py  what is put into it: files, libraries
harness.py    run_agent: a model works in a session; attached.py: and somebody talks to it
scoped.py     functions of one sandbox for others; served.py: their calls
mcp.py        the tools of a session for clients of MCP; mcp_config.py: how they start it
"""
