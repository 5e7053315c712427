"""Pictures and charts, drawn from records."""
