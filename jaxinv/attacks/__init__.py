"""Attacks by threat model: white-box, black-box, query-free."""
