"""The pure domain: no clock, no randomness, no IO. `now` comes in as an argument."""
