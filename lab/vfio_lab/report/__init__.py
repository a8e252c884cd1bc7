"""The report: a static site that shows what runs found, for people who were not there."""
