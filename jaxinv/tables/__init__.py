"""Tables of runs in Markdown, each with the command that makes it again.

`plan` reads which tables there are, `figures` makes numbers of the records, `markdown` makes text
of the numbers, `blocks` puts it where a page has room for it.
"""
