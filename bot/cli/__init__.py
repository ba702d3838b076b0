"""The command line: click commands, one module per group.

A command imports what it needs when it runs: `bot status` must not pay for the web server (0.7 s
on a small machine) or for the Telnyx SDK (5 s).
"""
