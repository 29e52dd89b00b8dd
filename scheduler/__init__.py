"""Plans and dispatches work; the pure domain is in `scheduler.core`."""
