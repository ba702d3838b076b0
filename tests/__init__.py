"""Tests: the folders mirror bot/, besides these.

kit/ has the shared helpers, stories/ conversations as scripts, proof/ the long tests of the whole
service, and browser/ the tests in a real browser.
"""
