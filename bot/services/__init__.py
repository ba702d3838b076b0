"""The services: one background task or one use case per module."""
