"""What the world may ask of us: thin handlers, no rules."""
