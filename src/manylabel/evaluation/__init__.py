"""From predictions with their truth to a report: every metric, what it is worth, and the pages that show it."""
