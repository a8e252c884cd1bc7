"""Does the tutorial tell the truth?"""


def test_the_tutorial_does_what_it_shows(tutorial):
    """Every command of docs/tutorial.md prints what stands below it."""
    tutorial.follow()
