"""Reads the members of a zip from elsewhere in memory; nothing is unpacked to disk."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from harness.errors import InputError
from harness.store.foreign import open_plain

#: the list of members alone takes some twenty times its bytes in memory
MAX_FILE_BYTES = 1 << 26
MAX_MEMBERS = 200_000
MAX_MEMBER_BYTES = 1 << 20
MAX_TOTAL_BYTES = 1 << 30


def read_zip(path: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of each member whose name ends in ``suffix``, in capitals too, by name.

    Raises :class:`InputError` if the file is no zip or is torn, names a member outside itself, or would grow
    to more than the limits above, by what it declares and by what it then yields.
    """
    try:
        with open_plain(path, MAX_FILE_BYTES) as opened, zipfile.ZipFile(opened) as archive:
            members = archive.infolist()
            for member in members:
                name = PurePosixPath(member.filename.replace("\\", "/"))
                if name.is_absolute() or ".." in name.parts or ":" in "".join(name.parts[:1]):
                    raise InputError(f"{path} is refused: its member {member.filename!r} lies outside the archive")
            wanted = sorted((m for m in members if m.filename.lower().endswith(suffix)), key=lambda m: m.filename)
            sizes = [member.file_size for member in wanted]
            if len(members) > MAX_MEMBERS or sum(sizes) > MAX_TOTAL_BYTES or max(sizes, default=0) > MAX_MEMBER_BYTES:
                raise InputError(
                    f"{path} is refused: it would grow to {sum(sizes)} bytes in {len(members)} members; "
                    f"allowed: {MAX_TOTAL_BYTES} in {MAX_MEMBERS}, {MAX_MEMBER_BYTES} each"
                )
            for member in wanted:
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise InputError(f"{path} is refused: {member.filename!r} is neither stored nor deflated")
                with archive.open(member) as file:
                    # zipfile stops at the declared size and then compares the checksum.
                    yield member.filename, file.read(MAX_MEMBER_BYTES)
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{path} is no readable zip: {' '.join(str(error).split())[:200]}") from error
    except Exception as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no readable zip: {type(error).__name__}: {error}") from error
