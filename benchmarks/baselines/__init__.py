"""Small servers to compare the bot with."""
