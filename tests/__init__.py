"""Tests; kit/ holds what they share, the other folders mirror bot/."""
