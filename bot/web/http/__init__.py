"""Parts that handlers share."""
