"""Quality, linkage, intervals, bounds, costs, and the decision among choices."""
