"""Linkage: attackers who hold candidates, and tell which of them a release is of.

They compare features and need no reconstruction. Linkage is another harm than reconstruction: a
release from which no image can be rebuilt may still single out its input among a thousand others.
"""

from jaxinv.attacks.linkage.link import Link, link
