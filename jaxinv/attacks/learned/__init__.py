"""Maps from features to images that an attacker trains, and the queries that it trains them on."""
