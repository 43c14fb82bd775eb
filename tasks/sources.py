"""Where a data set may come from, and how a source is written where others can read it."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dcgan.errors import ConfigurationError
from tasks.settings import CHECKOUT

BUNDLED = CHECKOUT / "data" / "mnist"
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
SCHEMES = ("http", "https", "file", "s3", "gs")
EXPECTED = "auto, bundled, a directory, or a URL that begins with " + ", ".join(f"{scheme}://" for scheme in SCHEMES)


def mask_credentials(text: str) -> str:
    """Return text with the user, password and query of every URL in it replaced by ***."""
    masked = re.sub(r"(?<=://)[^\s]*@", "***@", text)
    return re.sub(r"(://[^\s?#]*)[?#][^\s]*", r"\1?***", masked)


def check_source(source: str) -> None:
    """Refuse what cannot be a source, without looking whether it exists.

    Raises:
        ConfigurationError: `source` is no known word, path or URL of a known kind, or it holds credentials.
    """
    if not source.strip() or "\0" in source:
        raise ConfigurationError(f"The source {source!r} is empty or not text; expected {EXPECTED}.")
    if "://" not in source:
        return
    try:
        url = urlsplit(source)
        usable = url.scheme in SCHEMES and (url.scheme == "file" or url.hostname) and (url.port is None or url.port)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"The source {mask_credentials(source)} cannot be used; expected {EXPECTED}.")
    if "@" in url.netloc:
        raise ConfigurationError(
            f"The source {mask_credentials(source)} holds credentials, which Prefect would store; expected them in "
            "~/.netrc, or, of s3:// and gs://, where s3fs and gcsfs look for them."
        )
    if url.query or url.fragment:
        raise ConfigurationError(
            f"The source {mask_credentials(source)} has a query or fragment; expected the prefix of four files."
        )


def local_folder(source: str) -> Path | None:
    """Return the folder that a source names on this machine, or None where it is elsewhere."""
    if source == "bundled":
        return BUNDLED
    if source.startswith("file://"):
        return Path(unquote(urlsplit(source).path))
    return None if source == "auto" or "://" in source else _expanded(Path(source)).absolute()


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user
        return path
