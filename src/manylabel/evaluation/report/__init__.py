"""A report shown to people and programs: metrics.json, the terminal, one page of HTML."""
