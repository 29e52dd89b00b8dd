"""Webhooks: events are told to addresses that tenants name, each at least once."""
