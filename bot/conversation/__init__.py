"""Decides what a text means and what follows from it: pure, without I/O or a clock."""
