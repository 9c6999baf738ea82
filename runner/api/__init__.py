"""What a script drives a sandbox with, under the names that Seer's users know; docs/seer.md.

sandbox.py    Sandbox: started, used and ended by a script
driven.py     its run: the record, what is pulled into it, how it ended
guest.py      or a run that somebody else drives
snapshots.py  what a sandbox has, kept and put into another one
sessions.py   the notebook or the shell of a sandbox
workspace.py  what is put into it: files, libraries
harness.py    run_agent: a model works in a session; terminal.py: and somebody talks to it
foreign.py    MCP servers of others, as its tools; foreign_stdio.py: those that are started
scoped.py     functions of one sandbox for others; served.py: their calls
mcp.py        tools for clients of MCP; mcp_config.py: how they start it
management.py tools that look after all of one's sandboxes
"""
