"""Training: the fit loop, targets, retraining behind a defense, and the judge."""
