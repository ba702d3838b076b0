"""Textproof: a phone proves itself by text."""

__version__ = "0.1.0"
