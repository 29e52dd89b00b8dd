"""The scheduler in virtual time: production decisions on replayed branches and modeled engines."""
