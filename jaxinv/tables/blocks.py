"""Places in Markdown pages that a program writes, between two comments. Standard library."""

from pathlib import Path

from jaxinv.errors import UserError
from jaxinv.store import files


def marks(name: str) -> tuple[str, str]:
    """Returns the lines between which the block of a name stands."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def find(page: str, name: str) -> str | None:
    """Returns what stands in a block of a page's text; None if it has no such block."""
    begin, end = marks(name)
    _, found, rest = page.partition(f"{begin}\n")
    block, closed, _ = rest.partition(f"\n{end}")
    if found and rest.startswith(end):
        return ""
    return block if found and closed else None


def replace(page: str, name: str, text: str) -> str:
    """Returns a page's text with another block; the page has one of that name."""
    begin, end = marks(name)
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{text}\n{end}{after}"


def read(page: Path) -> str:
    """Returns the text of a page.

    Raises:
      UserError: it cannot be read, or is no text.
    """
    try:
        return page.read_text("utf-8")
    except OSError as error:
        raise UserError(f"{page} cannot be read: {files.reason(error)}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{page} cannot be read: it is not text in UTF-8.") from error


def publish(text: str, page: Path, name: str) -> None:
    """Puts a text into the block of a page.

    Raises:
      UserError: the page has no such block, or cannot be read or written.
    """
    old = read(page)
    if find(old, name) is None:
        begin, end = marks(name)
        raise UserError(f"{page} has no lines {begin} and {end} to put the table between.")
    files.atomic_write(page, lambda file: file.write(replace(old, name, text).encode()))
