"""Benchmarks of the bot, compared with the fastest possible server and the usual way."""
