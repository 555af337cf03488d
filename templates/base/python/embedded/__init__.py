"""Real parts that stand in on a laptop for the servers of production. `app` works without them."""
