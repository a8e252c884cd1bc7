"""The report of runs, in several formats: a static web site, a summary, KTAP and KCIDB."""
