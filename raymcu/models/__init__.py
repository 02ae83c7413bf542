"""How networks are opened, fed and read."""
