"""The client of the operator's app: posts events, signs them, refuses private addresses."""
