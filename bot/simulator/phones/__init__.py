"""Simulated phones: a page in the browser and one in the terminal."""
