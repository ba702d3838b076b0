"""Delivery from the queues to Telnyx and to the app: claim, deliver, settle, retry."""
