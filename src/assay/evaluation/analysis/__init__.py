"""Numbers from records: accuracies, comparisons, query curves, transfer."""
