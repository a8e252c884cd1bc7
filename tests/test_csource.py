"""Functions in C files, and what changes between two versions of a file."""

from pathlib import PurePath

from vfio_lab.kernels import csource
from vfio_lab.kernels.csource import FileChange

TEXT = """\
#include <linux/vfio.h>

/* A table, with a brace of its own. */
static const struct file_operations ops = {
	.open = first,
};

static int first(struct file *file,
		int count)
{
	int ret = 0;

	if (count &&
	file)
		return -EINVAL;
	return ret;
}

__printf(2, 3)
static void __second(int a, const char *format, ...)

{
}

#ifdef CONFIG_PM
int third(void) __must_hold(&lock)
{
	return 1;
}
#else
int third(void)
{
	return 2;
}
#endif
"""


def changed(before: str, after: str, text: str = TEXT) -> FileChange:
    assert before in text
    return FileChange(PurePath("drivers/vfio/x.c"), text, text.replace(before, after, 1))


def test_functions_have_their_names_and_lines() -> None:
    found = csource.functions(TEXT)
    assert [(one.name, one.first, one.last) for one in found] == [
        ("first", 8, 17),
        ("__second", 19, 23),
        ("third", 26, 29),
        ("third@2", 31, 34),
    ]


def test_a_functions_digest_is_of_its_own_text_alone() -> None:
    moved = csource.functions("\n\n" + TEXT.replace("return 2", "return 3"))
    same = [
        one.digest == other.digest
        for one, other in zip(moved, csource.functions(TEXT), strict=True)
    ]
    assert same == [True, True, True, False]


def test_hunks_are_numbered_by_the_old_version() -> None:
    (replaced,) = csource.hunks(changed("return -EINVAL;", "return -EPERM;"))
    assert (replaced.first, replaced.removed) == (15, ("\t\treturn -EINVAL;",))
    (added,) = csource.hunks(changed("	return ret;\n", "	count++;\n	return ret;\n"))
    assert (added.first, added.removed, added.added) == (16, (), ("\tcount++;",))


def test_every_line_of_a_new_file_is_added() -> None:
    (hunk,) = csource.hunks(FileChange(PurePath("x.c"), None, TEXT))
    assert (hunk.removed, len(hunk.added)) == ((), len(TEXT.splitlines()))


def test_comments_and_empty_lines_are_trivial() -> None:
    (hunk,) = csource.hunks(
        changed("/* A table, with a brace of its own. */", "/* A\n * table.\n */\n")
    )
    assert hunk.trivial
    (hunk,) = csource.hunks(changed("	return ret;", "	*file = 0;"))
    assert not hunk.trivial


BRANCHES = """\
static int branches(int n)
{
	first();
	if (n) {
		second();
	} else {
		third(n,
			n);
	}
	fourth();
out:
	fifth();
}
"""


def test_a_line_runs_only_after_those_above_it_that_are_no_deeper() -> None:
    lines = BRANCHES.splitlines()
    assert list(csource.leading(lines, 8, 1)) == [8, 7, 6, 4, 3, 2]
    assert list(csource.leading(lines, 10, 1)) == [10, 9, 6, 4, 3, 2]
    assert list(csource.leading(lines, 12, 1)) == [12]
