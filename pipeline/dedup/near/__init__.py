"""Near duplicates: proposed by MinHash, dropped only where nothing informative is lost."""
