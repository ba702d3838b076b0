"""From a webhook or an app's request to its commit: batches, decisions, and their consequences."""
