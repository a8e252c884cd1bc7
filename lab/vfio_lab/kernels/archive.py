"""Series from mailing list archives, fetched by b4.

Source: b4 am(5), https://b4.docs.kernel.org.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from vfio_lab.errors import HostError, UsageError
from vfio_lab.util import host
from vfio_lab.util.process import environment

B4 = "b4"
LINK = re.compile(r"https?://\S+", re.IGNORECASE)
MESSAGE_ID = re.compile(r"<?[^\s<>@{}/]+@[^\s<>@{}/]+>?")
UNKNOWN = re.compile(r"message-id is not known|Server returned an error: 404")
TIMEOUT_S = 120.0
LINE = 160


def is_message(words: str) -> bool:
    """Return whether words are a Message-ID or a link."""
    return bool(LINK.fullmatch(words) or MESSAGE_ID.fullmatch(words))


def fetch_series(message: str) -> tuple[str, str]:
    """Return the series that a mail belongs to, as a mailbox, and its cover letter, if any.

    Args:
        message: the Message-ID of one of its mails, or a link to it in an archive.

    Raises:
        HostError: there is no b4, or it does not reach the archive.
        UsageError: the archive has no such series.
    """
    program = host.which(B4)
    if program is None:
        raise HostError(
            f"cannot fetch {message}",
            expected="b4, which fetches series from mailing list archives",
            seen=f"no {B4} on the PATH",
            hint="install b4, or save the series as a mailbox and name that",
        )
    with tempfile.TemporaryDirectory(prefix="vfio-lab-") as folder:
        said = _fetch(os.fspath(program), message, folder)
        mailboxes, covers = (sorted(Path(folder).glob(glob)) for glob in ("*.mbx", "*.cover"))
        if mailboxes:
            return _text(mailboxes), _text(covers)
    last = said.splitlines()[-1][:LINE] if said else "b4 says nothing"
    if UNKNOWN.search(said):
        raise UsageError(f"the archive has no series with {message}", seen=last)
    raise _unreachable(message, last)


def _fetch(program: str, message: str, folder: str) -> str:
    """Have b4 write a mailbox and the cover letter; return what it says."""
    command = [program, "--no-interactive", "am", "--no-add-trailers", "-o", folder, message]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
            env=environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise _unreachable(message, f"no answer within {TIMEOUT_S:.0f} s") from error
    return done.stderr.decode(errors="replace").strip()


def _text(paths: list[Path]) -> str:
    return "".join(path.read_text(errors="replace") for path in paths)


def _unreachable(message: str, seen: str) -> HostError:
    return HostError(
        f"b4 cannot fetch {message}",
        seen=seen,
        hint="is there a network? A series that was saved as a mailbox needs none",
    )
