"""How fast the bot is, beside what any server could do and what one usually writes."""
