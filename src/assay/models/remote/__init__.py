"""Models behind an endpoint: how they are asked, what that costs, and what was answered before."""
