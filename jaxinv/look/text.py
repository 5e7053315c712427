"""Text as it can be drawn, whatever a record holds."""


def printable(text: str) -> str:
    """Returns text with a mark in place of every character that cannot be drawn.

    Control characters and lone surrogates abort the program that draws charts. Line breaks stay.
    """
    return "".join(
        character if character in " \n" or character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )
