"""How fast the bot is, beside what any server could do and what one usually writes."""

import sys
from pathlib import Path

# The tests' harness finds or starts a PostgreSQL, and makes crowds.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
