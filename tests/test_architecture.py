"""The rules that keep the rooms apart, the modules short and the scenarios readable."""

import ast
import functools
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import vfio_lab
from vfio_lab.spec.claims import load_claims
from vfio_lab.spec.scenarios import by_claim, cited_claims

PROJECT = Path(vfio_lab.__file__).parents[2]
LONGEST_MODULE = 400
LONGEST_FUNCTION = 40
LONGEST_SCENARIO = 12
LONGEST_MODEL = 800
WIDEST_C = 100
TAB = 8
# In the kernel's style, a function is what has its braces in the first column.
C_FUNCTION = re.compile(r"^\w[^\n;]*\((?:[^;{}]|\n)*?\)\n\{\n(.*?)^\}$", re.MULTILINE | re.DOTALL)
MODEL = ("hardware", "state", "rules", "administration", "opening", "using")
PURE = (
    "vfio_lab.errors",
    "vfio_lab.hw",
    "vfio_lab.spec",
    "vfio_lab.uapi",
    "vfio_lab.qemu.argv",
    *(f"vfio_lab.model.{name}" for name in MODEL),
)
EFFECTS = {"subprocess", "socket", "asyncio", "threading", "selectors", "shutil", "tempfile"}
# Where people and machines get packages from. Written apart, so as not to be found here.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("deb", "debian", "org"),
        ("snapshot", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
    )
]
UNFINISHED = re.compile(rf"\b({'|'.join(('TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X'))})\b")
SUPPRESSION = re.compile(r"#\s*(type: ignore|ruff: noqa|noqa|pragma|mypy:)(.*)")
SECTION = re.compile(r"^Args:\n((?: +.*\n?)+)", re.MULTILINE)
SELF_EVIDENT = 2  # parameters that a summary line can explain
# Words of earlier versions that had to be explained: in no text, and those that mean something else
# too (a mail has a subject, a device is attached) in no name.
RETIRED_WORDS = re.compile(
    r"\b(fenced?|keepers?|visits?|board|shortage|inventory|workshop|fate|cargo|furniture)\b", re.I
)
RETIRED_NAMES = {"ahead", "attach", "find", "judge", "lent", "load", "named", "obtain", "subject"}
# A program's own; help texts; steps as they are taken, whose words the model's rules explain.
NO_LIBRARY = (
    "lab/vfio_lab/agent/",
    "lab/vfio_lab/cli/",
    "lab/vfio_lab/model/exploration/performer.py",
)
REASONED = re.compile(r"(\[[a-z, -]+\]  # \S|: [A-Z0-9, ]+ - \S)")


def modules(*rooms):
    return sorted(path for room in rooms for path in (PROJECT / room).rglob("*.py"))


def c_sources():
    """All C but what `vfio-lab repro` wrote, for reports and as recorded data."""
    rooms = ("lab", "fixtures", "scenarios", "images", "tests")
    found = (path for room in rooms for path in (PROJECT / room).rglob("*.[ch]"))
    return sorted(path for path in found if "data" not in path.parts)


@functools.cache
def tree(path):
    return ast.parse(path.read_text(), str(path))


def where(path, node=None):
    return f"{path.relative_to(PROJECT)}" + (f":{node.lineno}" if node is not None else "")


def dotted(path):
    parts = path.relative_to(PROJECT).with_suffix("").parts
    parts = parts[1:] if parts[0] in ("lab", "fixtures") else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Return every module that a file names in an import, relative ones resolved."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, *([base] if base else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def importers(name, *rooms):
    """Return the files that import a module or something in it."""
    return {
        where(path)
        for path in modules(*rooms)
        if any(one == name or one.startswith(f"{name}.") for one in imports(path))
    }


def functions(path):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]


def scenarios():
    for path in modules("scenarios"):
        for function in functions(path):
            if function.name.startswith("test"):
                yield path, function


def body(function):
    """Return a function's statements without its docstring."""
    documented = ast.get_docstring(function) is not None
    return function.body[1:] if documented else function.body


def docstring_lines(function):
    if ast.get_docstring(function) is None:
        return 0
    return function.body[0].end_lineno - function.body[0].lineno + 1


@functools.cache
def tracked():
    """Return the text files under version control."""
    if shutil.which("git") is None or not (PROJECT / ".git").exists():
        pytest.skip("needs a git checkout: this is none")
    command = [shutil.which("git"), "-c", f"safe.directory={PROJECT}", "ls-files", "-z"]
    which = ["--cached", "--others", "--exclude-standard"]
    names = subprocess.run([*command, *which], cwd=PROJECT, capture_output=True, check=True).stdout
    paths = [PROJECT / name.decode() for name in names.split(b"\0") if name]
    files = {path: path.read_bytes() for path in paths if path.is_file()}
    return {
        path: data.decode(errors="replace") for path, data in files.items() if b"\0" not in data
    }


def test_the_library_does_not_import_pytest():
    for package in ("pytest", "_pytest", "testinfra"):
        assert importers(package, "lab") == set()


@pytest.mark.parametrize(
    ("library", "room"),
    [("qemu.qmp", "lab/vfio_lab/qemu/qmp.py"), ("paramiko", "lab/vfio_lab/machine/ssh.py")],
)
def test_a_library_has_one_door(library, room):
    assert importers(library, "lab", "fixtures", "scenarios") == {room}


def test_the_lease_needs_nothing_but_the_standard_library():
    allowed = {*sys.stdlib_module_names, "vfio_lab"}
    for path in modules("lab/vfio_lab/agent"):
        assert {name.partition(".")[0] for name in imports(path)} <= allowed, where(path)
        inside = {name for name in imports(path) if name.partition(".")[0] == "vfio_lab"}
        assert all(name.startswith("vfio_lab.agent") for name in inside), where(path)


def test_values_have_no_effects():
    for path in modules("lab"):
        if f"{dotted(path)}.".startswith(tuple(f"{room}." for room in PURE)):
            assert not imports(path) & EFFECTS, where(path)


def parameters(function):
    """Return the names of a function's parameters, without `self` and `cls`."""
    taken = function.args
    every = [*taken.posonlyargs, *taken.args, taken.vararg, *taken.kwonlyargs, taken.kwarg]
    return {one.arg for one in every if one is not None} - {"self", "cls"}


def public(node):
    """Yield the public functions and methods below a node.

    Left out are overloads, and the rules of the model: each takes the words of its step.
    """
    for one in getattr(node, "body", ()):
        if getattr(one, "name", "_").startswith("_"):
            continue
        if isinstance(one, ast.ClassDef):
            yield from public(one)
        elif not any(
            ast.unparse(decorator).startswith(("overload", "typing.overload", "rule("))
            for decorator in one.decorator_list
        ):
            yield one


def undocumented(function):
    """Return the parameters that the Args section of a function's docstring does not name."""
    section = SECTION.search(ast.get_docstring(function) or "")
    names = re.findall(r"^ {4}(\w+):", section[1], re.MULTILINE) if section else []
    return parameters(function) - set(names)


def test_public_functions_explain_their_parameters():
    found = {
        where(path, one): sorted(undocumented(one))
        for path in modules("lab")
        if not where(path).startswith(NO_LIBRARY)
        for one in public(tree(path))
        if len(parameters(one)) > SELF_EVIDENT and undocumented(one)
    }
    assert found == {}


def test_nobody_sleeps_but_the_one_who_waits():
    sleepers = {
        where(path)
        for path in modules("lab", "fixtures", "scenarios")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    }
    assert sleepers == {"lab/vfio_lab/util/deadline.py"}


def test_imports_do_not_go_round():
    known = {dotted(path): path for path in modules("lab", "fixtures")}
    graph = {name: (imports(path) & set(known)) - {name} for name, path in known.items()}
    # `from lab import x` names the package too, which imports nothing itself.
    while leaves := {name for name, needs in graph.items() if not needs & set(graph)}:
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
    assert {name: needs & set(graph) for name, needs in graph.items()} == {}


@pytest.mark.parametrize("path", modules("lab", "fixtures", "scenarios", "tests"), ids=where)
def test_a_module_fits_a_mind_and_a_function_a_screen(path):
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE
    lengths = {
        where(path, one): one.end_lineno - one.lineno + 1 - docstring_lines(one)
        for one in functions(path)
    }
    assert {place: length for place, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_the_model_can_be_read_in_an_hour():
    model = (PROJECT / "lab" / "vfio_lab" / "model").glob("*.py")
    assert sum(len(path.read_text().splitlines()) for path in model) <= LONGEST_MODEL


@pytest.mark.parametrize("path", c_sources(), ids=where)
def test_c_fits_a_mind_and_a_screen_too(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    assert max(len(line.expandtabs(TAB)) for line in text.splitlines()) <= WIDEST_C
    bodies = [match[1] for match in C_FUNCTION.finditer(text)]
    assert len(bodies) == len(re.findall(r"^\{$", text, re.MULTILINE))
    assert [body for body in bodies if len(body.splitlines()) > LONGEST_FUNCTION] == []


@pytest.mark.parametrize(
    ("path", "function"), list(scenarios()), ids=lambda one: getattr(one, "name", "")
)
def test_a_scenario_is_short_straight_and_says_what_it_shows(path, function):
    place = where(path, function)
    assert ast.get_docstring(function), f"{place}: no docstring"
    statements = [
        node for one in body(function) for node in ast.walk(one) if isinstance(node, ast.stmt)
    ]
    lines = body(function)[-1].end_lineno - body(function)[0].lineno + 1
    assert max(len(statements), lines) <= LONGEST_SCENARIO, f"{place}: {lines} lines"
    assert cited_claims(function), f"{place}: no claim"


@pytest.mark.parametrize("path", modules("scenarios"), ids=where)
def test_scenarios_neither_loop_nor_sleep_nor_start_processes(path):
    loops = [node for node in ast.walk(tree(path)) if isinstance(node, ast.For | ast.While)]
    assert [where(path, node) for node in loops] == []
    assert not imports(path) & {"subprocess", "os", "time.sleep", "asyncio", "threading"}


def test_a_claim_is_shown_when_a_scenario_cites_it_and_only_then():
    in_scenarios = set(by_claim())
    shown = {claim.id for claim in load_claims().values() if claim.shown}
    assert in_scenarios - set(load_claims()) == set(), "unknown claims"
    assert in_scenarios - shown == set(), "cited, but not marked as shown"
    assert shown - in_scenarios == set(), "marked as shown, but cited by no scenario"


def test_a_public_name_means_one_thing():
    """Commands are called as they are typed; the lease is a program of its own."""
    apart = ("lab/vfio_lab/cli", "lab/vfio_lab/agent")
    homes = {}
    for path in modules("lab"):
        if not where(path).startswith(apart):
            for node in tree(path).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                    homes.setdefault(node.name, []).append(where(path))
    homes.pop("main", None)  # of programs that are started with -m
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_a_plugins_fixture_is_no_other_plugins():
    homes = {}
    for path in modules("fixtures"):
        for one in functions(path):
            if any("fixture" in ast.unparse(decorator) for decorator in one.decorator_list):
                homes.setdefault(one.name, []).append(where(path))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_no_file_names_a_registry_or_a_place_of_this_machine():
    places = [str(PROJECT), *({str(Path.home())} - {"/", "/root"})]
    found = {
        (where(path), word)
        for path, text in tracked().items()
        for word in (*REGISTRIES, *places)
        if word in text
    }
    assert found == set()


def test_nothing_is_left_unfinished():
    found = [where(path) for path, text in tracked().items() if UNFINISHED.search(text)]
    assert found == []


def test_retired_words_are_gone():
    found = {
        f"{where(path)}: {match[0]}"
        for path, text in tracked().items()
        for match in RETIRED_WORDS.finditer(text)
        if path != Path(__file__)
    }
    assert found == set()


@pytest.mark.parametrize("path", modules("lab", "fixtures"), ids=where)
def test_retired_words_name_nothing(path):
    kinds = ast.FunctionDef | ast.ClassDef
    names = {node.name.lower() for node in tree(path).body if isinstance(node, kinds)}
    assert (names | {path.stem}) & RETIRED_NAMES == set()


def comments(path):
    with tokenize.open(path) as file:
        yield from (
            one for one in tokenize.generate_tokens(file.readline) if one.type == tokenize.COMMENT
        )


@pytest.mark.parametrize("path", modules("lab", "fixtures", "scenarios", "tests"), ids=where)
def test_a_check_is_only_silenced_by_name_and_with_a_reason(path):
    for comment in comments(path):
        match = SUPPRESSION.match(comment.string)
        if match:
            assert REASONED.match(match[2]), f"{where(path)}:{comment.start[0]}: {comment.string}"
