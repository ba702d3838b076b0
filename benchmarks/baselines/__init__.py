"""Small honest servers to hold the bot against."""
