"""A mirror that the user names: taken before the host's, never trusted, and refused in one line."""

import http.server
import shutil
import subprocess
import threading

import pytest

from vfio_lab.errors import HostError, UsageError
from vfio_lab.util import apt
from vfio_lab.util.cache import Cache

MIRROR = "http://mirror.example/debian"
RELEASE = "Origin: Debian\nLabel: Debian\nSuite: trixie\nCodename: trixie\n"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The user's configuration file, and no word of a mirror in the environment."""
    for name in (apt.MIRROR, apt.KEYRING):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "config/vfio-lab/config.toml"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def keyring(tmp_path):
    path = tmp_path / "keyring.gpg"
    path.touch()
    return path


@pytest.mark.usefixtures("config")
def test_without_a_word_the_hosts_mirror_is_used():
    assert apt.named_mirror() is None


@pytest.mark.usefixtures("config")
def test_the_environment_names_a_mirror_and_its_keyring(keyring, monkeypatch):
    monkeypatch.setenv(apt.MIRROR, f"{MIRROR}/")
    monkeypatch.setenv(apt.KEYRING, str(keyring))
    assert apt.mirror() == apt.Mirror(MIRROR, keyring, f"{MIRROR}-security")


def test_the_configuration_file_names_them_and_the_environment_wins(config, keyring, monkeypatch):
    config.write_text(f'mirror = "{MIRROR}"\nkeyring = "{keyring}"\n')
    assert apt.mirror().uri == MIRROR
    monkeypatch.setenv(apt.MIRROR, "http://other.example/debian")
    assert apt.mirror().uri == "http://other.example/debian"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('mirror = "debian"', "the Debian mirror is no address"),
        ("mirror = ", "cannot read"),
        (f'mirror = "{MIRROR}"\nkeyring = "/no/such"', "cannot be verified"),
    ],
)
def test_a_mirror_that_makes_no_sense_is_refused(config, text, words):
    config.write_text(text)
    with pytest.raises(UsageError, match=words):
        apt.mirror()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the server's only page, else with 404."""

    def do_GET(self):
        page = self.server.pages.get(self.path)
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Length", str(len(page or b"")))
        self.end_headers()
        self.wfile.write(page or b"")

    def log_message(self, *_words):
        pass


@pytest.fixture
def serve():
    """Return what serves a text as a mirror's InRelease, and nothing else."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:

        def start(in_release):
            server.pages = {"/debian/dists/trixie/InRelease": in_release}
            return f"http://127.0.0.1:{server.server_port}/debian"

        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield start
        server.shutdown()
        thread.join()


@pytest.fixture
def signed(tmp_path):
    """Return what signs a text with a new key, and the key's keyring."""
    if shutil.which("gpg") is None:
        pytest.skip("this host has no gpg")
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)

    def gpg(*words, data=b""):
        command = ["gpg", "--homedir", str(home), "--batch", "--quiet", *words]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    gpg("--passphrase", "", "--quick-generate-key", "somebody", "ed25519", "sign", "never")
    yield lambda text: gpg("--clearsign", data=text.encode())
    subprocess.run([shutil.which("gpgconf"), "--homedir", str(home), "--kill", "all"], check=True)


def refused(uri, tmp_path, words):
    keyring = next((path for path in apt.KEYRINGS if path.exists()), None)
    if keyring is None:
        pytest.skip("this host has no keyring of Debian")
    cache = Cache(tmp_path / "cache").open()
    with (
        pytest.raises(HostError, match="cannot fetch the package list of trixie") as error,
        apt.session(cache, apt.Mirror(uri, keyring)) as tool,
    ):
        assert tool.update("trixie")
    assert words in str(error.value)
    assert not (cache.root / "apt").exists()


def test_a_mirror_that_answers_with_a_page_is_refused(serve, tmp_path):
    refused(serve(b"<html>Please log in</html>"), tmp_path, "Clearsigned file isn't valid")


def test_a_mirror_whose_list_somebody_else_signed_is_refused(serve, signed, tmp_path):
    refused(serve(signed(RELEASE)), tmp_path, "NO_PUBKEY")


def test_a_mirror_with_half_a_list_is_refused(serve, signed, tmp_path):
    whole = signed(RELEASE)
    refused(serve(whole[: len(whole) // 2]), tmp_path, "Err:1 ")


def test_a_mirror_without_the_suite_is_no_error(serve, tmp_path):
    source = apt.Mirror(serve(None), next(iter(apt.KEYRINGS)))
    with apt.session(Cache(tmp_path / "cache").open(), source) as tool:
        assert not tool.update("trixie")
