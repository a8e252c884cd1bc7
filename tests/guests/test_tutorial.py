"""Do the pages with commands tell the truth?"""


def test_the_tutorial_does_what_it_shows(tutorial):
    """Every command of docs/tutorial.md prints what stands below it."""
    tutorial.follow()


def test_the_page_of_a_reviewer_does_what_it_shows(review_page):
    """Every command of docs/review.md prints what stands below it."""
    review_page.follow()
