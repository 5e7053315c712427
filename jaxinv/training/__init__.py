"""Everything that is trained: the fit loop, targets, retraining behind a defence, the judge."""
