"""An engine in a process of its own, behind the protocol that engines speak."""
