"""The operator's app, spoken to: what is posted there, how it is signed, where it may lead."""
