"""Exhaustive check: every reachable combination of states, limits and tokens, breadth first.

Random tests find what they happen to try. This check tries all: it makes the limits small, lets the
clock stop only at the moments that matter, merges what the rules cannot distinguish, and then makes
every input in every combination that can be reached. `python -m tests.proof.exhaustive` runs it.

- `scopes`: how small the limits are, and which inputs are made
- `facts`: what the rules know, in a form in which equal means "will behave alike"
- `offers`: the inputs that can be made
- `edges`: one input, decided by `bot.conversation`
- `invariants`: what must be true of every edge
- `search`: the breadth-first search
- `traces`: the shortest way to a violation, and its replay with a real clock
"""
