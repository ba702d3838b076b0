"""Benchmarks of the bot, beside the fastest possible server and a usual implementation."""
