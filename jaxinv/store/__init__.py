"""Files that survive kills: records, checkpoints, locks."""
