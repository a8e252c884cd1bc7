import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from vfio_lab.arch import AARCH64
from vfio_lab.errors import BuildError, HostError, UsageError
from vfio_lab.image import rootfs
from vfio_lab.image.recipe import command, network
from vfio_lab.util import apt, host
from vfio_lab.util.cache import Cache

MIRROR = apt.Mirror("http://mirror.example/debian", Path("/usr/share/keyrings/debian.gpg"))
STATUS = """\
Package: python3
Status: install ok installed
Version: 3.13.5-1
Description: interpreter
 Version: not this one

Package: mount
Status: install ok installed
Architecture: amd64
Version: 2.41.5-0+deb13u1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the recipe to play with."""
    return Path(shutil.copytree(rootfs.IMAGES, tmp_path / "images"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache").open()


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for mmdebstrap and sqfstar, on a host that has everything."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(apt, "mirror", lambda: MIRROR)
    monkeypatch.setattr(host, "need", lambda _purpose: None)
    monkeypatch.setattr(rootfs, "need_namespaces", lambda: None)
    monkeypatch.setattr(rootfs, "_as_root", list)
    return folder


def stand_in(tools: Path, name: str, body: str) -> None:
    path = tools / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def working(tools: Path) -> None:
    # What mmdebstrap's download hook does: copy the package list to where the hook says.
    find = r"""for word; do case $word in *download*) set -- $word;; esac; done"""
    stand_in(tools, "mmdebstrap", f"{find}\nprintf '%s' '{STATUS}' >\"$3\"\necho a tar")
    stand_in(tools, "sqfstar", 'for file; do case $file in *.squashfs) cat >"$file";; esac; done')


def test_the_recipe_gives_a_reason_for_everything_in_and_everything_out() -> None:
    data = tomllib.loads((rootfs.IMAGES / "rootfs.toml").read_text())
    for recipe in (data, *data["images"].values()):
        for name, reason in {**recipe.get("packages", {}), **recipe.get("drop", {})}.items():
            assert len(reason) >= len("likewise"), name


def test_the_recipes_name_files_that_are_there() -> None:
    for made in rootfs.recipes().values():
        assert all(path.is_file() for path in made.files.values())
        assert "/usr/lib/vfio-lab/init" in made.files


def test_every_image_has_what_the_base_has_and_a_key_of_its_own() -> None:
    base, clients = rootfs.recipe(), rootfs.recipe("clients")
    assert set(base.packages) < set(clients.packages)
    assert set(base.drop) < set(clients.drop)
    assert base.files.items() <= clients.files.items()
    assert base.key != clients.key
    assert (base.extras, clients.extras) == ((), ("kernel",))


def test_images_that_differ_in_the_payload_only_are_built_once() -> None:
    base, selftests = rootfs.recipe(), rootfs.recipe("selftests")
    assert selftests.key == base.key
    assert selftests.extras == ("selftests",)
    assert rootfs.recipe("selftests", architecture=AARCH64).only == ()


def test_an_image_that_no_recipe_names_is_refused_with_those_that_are(cache: Cache) -> None:
    with pytest.raises(UsageError) as refusal:
        rootfs.find_image(cache, "client")
    assert refusal.value.expected == "one of base, selftests, clients"


def test_images_are_built_apart(cache: Cache, tools: Path) -> None:
    working(tools)
    clients = rootfs.ensure_image(cache, "clients")
    assert clients.name == "clients"
    assert rootfs.find_image(cache) is None
    assert rootfs.ensure_image(cache).path != clients.path
    assert rootfs.find_image(cache, "clients") == clients


def test_scripts_are_made_executable_and_nothing_else_is(tmp_path: Path) -> None:
    argv = command(rootfs.recipe("clients"), MIRROR, tmp_path)
    (made,) = [word for word in argv if "chmod 0755" in word]
    assert made.split()[2:] == ['"$1"/usr/lib/vfio-lab/init']


def test_nothing_that_differs_between_hosts_gets_into_the_image() -> None:
    drop = set(rootfs.recipe().drop)
    per_host = {
        "etc/apt",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/machine-id",
        "etc/ssh/ssh_host_*",
    }
    assert per_host | {"var/log/*", "var/cache/*", "tmp/*", "run/*"} <= drop


@pytest.mark.parametrize("name", ["init", "fstab", "sshd_config"])
def test_the_key_follows_every_file(folder: Path, name: str) -> None:
    before = rootfs.recipe(folder=folder).key
    (folder / name).write_text("changed\n")
    assert rootfs.recipe(folder=folder).key != before


def test_the_key_follows_packages_and_not_their_order_or_reasons(folder: Path) -> None:
    before = rootfs.recipe(folder=folder).key
    toml = folder / "rootfs.toml"
    text = toml.read_text()
    toml.write_text(text.replace("# on top of the variant", "# otherwise put"))
    assert rootfs.recipe(folder=folder).key == before
    toml.write_text(text.replace("[packages]", '[packages]\nstrace = "to see more"\n#'))
    assert rootfs.recipe(folder=folder).key != before


def test_the_mirror_is_the_hosts_and_signatures_are_checked(tmp_path: Path) -> None:
    argv = command(rootfs.recipe(), MIRROR, tmp_path)
    assert argv[-3:] == [
        "trixie",
        "-",
        "deb [signed-by=/usr/share/keyrings/debian.gpg] http://mirror.example/debian trixie main",
    ]
    assert "--mode=unshare" in argv


def test_without_a_keyring_apts_own_keys_decide(tmp_path: Path) -> None:
    argv = command(rootfs.recipe(), apt.Mirror(MIRROR.uri, None), tmp_path)
    assert argv[-1] == "deb http://mirror.example/debian trixie main"


def test_the_hosts_proxy_is_used_for_the_image_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "apt.conf"
    settings.write_text('Acquire::http::Proxy "http://proxy.example:3142";\n')
    monkeypatch.setenv("APT_CONFIG", str(settings))
    argv = command(rootfs.recipe(), MIRROR, tmp_path, network())
    assert '--aptopt=Acquire::http::Proxy "http://proxy.example:3142";' in argv


def test_hooks_survive_paths_with_spaces(folder: Path) -> None:
    scratch = folder / "with space"
    argv = command(rootfs.recipe(folder=folder), MIRROR, scratch)
    assert f"--customize-hook=download /var/lib/dpkg/status '{scratch}/status'" in argv


def test_installed_packages_are_read_from_dpkgs_status() -> None:
    assert rootfs.installed(STATUS) == {"python3": "3.13.5-1", "mount": "2.41.5-0+deb13u1"}


def test_a_built_image_is_found_again_with_its_packages(cache: Cache, tools: Path) -> None:
    working(tools)
    built = rootfs.ensure_image(cache)
    assert built.path.read_text() == "a tar\n"
    assert built.fstype == "squashfs"
    assert built.packages["python3"] == "3.13.5-1"
    assert rootfs.find_image(cache) == built
    assert sorted(path.name for path in built.path.parent.iterdir()) == [
        "image.json",
        "manifest.json",
        "root.squashfs",
    ]


def test_the_digest_is_of_the_content(cache: Cache, tools: Path) -> None:
    working(tools)
    first = rootfs.ensure_image(cache)
    rootfs.remove_image(cache)
    assert rootfs.find_image(cache) is None
    assert rootfs.ensure_image(cache).digest == first.digest
    rootfs.remove_image(cache)
    stand_in(tools, "mmdebstrap", (tools / "mmdebstrap").read_text() + "echo and more\n")
    assert rootfs.ensure_image(cache).digest != first.digest


def test_an_edited_image_is_built_anew(cache: Cache, tools: Path) -> None:
    working(tools)
    first = rootfs.ensure_image(cache)
    first.path.chmod(0o600)
    first.path.write_text("b tar\n")
    assert rootfs.find_image(cache) is None
    assert rootfs.ensure_image(cache).path.read_text() == "a tar\n"


def test_a_failed_build_leaves_its_log_and_nothing_else(cache: Cache, tools: Path) -> None:
    working(tools)
    stand_in(tools, "mmdebstrap", "echo 'E: Unable to locate package python3' >&2; exit 25")
    with pytest.raises(BuildError) as failure:
        rootfs.ensure_image(cache)
    assert "mmdebstrap exited with code 25" in str(failure.value.seen)
    assert "Unable to locate package python3" in str(failure.value.tail)
    assert failure.value.where is not None
    assert failure.value.where.exists()
    assert list((cache.root / "image").iterdir()) == []


def test_no_room_is_told_before_anything_is_fetched(
    cache: Cache, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tools, "mmdebstrap", f"touch {tools}/ran")
    monkeypatch.setattr(host, "free_bytes", lambda _folder: 1 << 20)
    with pytest.raises(HostError, match="not enough disk space"):
        rootfs.ensure_image(cache)
    assert not (tools / "ran").exists()


def test_a_user_without_a_range_of_ids_learns_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    monkeypatch.setattr(rootfs, "SUBORDINATE", (tmp_path / "subuid", tmp_path / "subgid"))
    with pytest.raises(HostError) as failure:
        rootfs.need_namespaces()
    assert failure.value.hint == (
        "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 nobody"
    )


def test_root_needs_no_range_of_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    rootfs.need_namespaces()


@pytest.mark.parametrize("name", ["init", "inner"])
def test_what_a_guest_starts_first_is_a_shell_script_that_parses(name: str) -> None:
    subprocess.run(["/bin/sh", "-n", rootfs.IMAGES / name], check=True)


def test_every_mount_is_below_the_new_root() -> None:
    lines = (rootfs.IMAGES / "fstab").read_text().splitlines()
    targets = [line.split()[1] for line in lines if not line.startswith("#")]
    assert targets[0] == "/mnt/root"
    assert all(target.startswith("/mnt/root") for target in targets)
    assert {"/mnt/root/proc", "/mnt/root/dev/pts", "/mnt/root/run/vfio-lab"} <= set(targets)


def test_facts_beside_the_image_are_json(cache: Cache, tools: Path) -> None:
    working(tools)
    facts = json.loads((rootfs.ensure_image(cache).path.parent / rootfs.FACTS).read_text())
    assert facts["suite"] == "trixie"
