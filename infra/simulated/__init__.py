"""A simulated history to look at: the production scheduler on recorded branches in virtual time."""
