"""Records: what they are, where they come from, and how to look at them."""
