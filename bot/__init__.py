"""Textproof: a self-hosted service that verifies phone numbers by SMS."""

__version__ = "0.1.0"
