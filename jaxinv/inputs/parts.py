"""Divides images into the target's, the attacker's and the test images. NumPy code.

Parts that are named so stay as they are. Others are divided by a hash of each image's content:
images that are added leave the others where they are, and copies of an image are in one part.
"""

import hashlib
from collections.abc import Collection, Sequence

import numpy as np

from jaxinv.errors import UserError

PARTS = ("target", "attacker", "test")
_TEST = ("test", "validation", "val")  # the first of them that is there is the test part
NAMES = ("target", "attacker", "train", *_TEST)
# Each part takes the places below a bound, in this order.
_SHARES: dict[str | None, tuple[tuple[str, float], ...]] = {
    None: (("test", 0.25), ("attacker", 0.5), ("target", 1.0)),
    "train": (("attacker", 1 / 3), ("target", 1.0)),
}
BY_HASH = "parts by a hash of each image's content"


def named(names: Collection[str]) -> dict[str, str | None]:
    """Returns the part that each of some named splits is; those that are left out are not used.

    Returns:
      Name -> "target", "attacker" or "test"; "train", which is divided between target and
      attacker; or None, which is divided among all three.

    Raises:
      UserError: they are no such parts; the message continues a sentence about the data.
    """
    if len(names) == 1 and not {*names} & {"target", "attacker", *_TEST}:
        return dict.fromkeys(names)
    test = next((name for name in _TEST if name in names), None)
    others = {name: name for name in names if name not in _TEST}
    if test is None or not others.keys() <= {"target", "attacker", "train"}:
        raise UserError(
            f"has the parts {', '.join(sorted(names))}; expected test and, for attackers and "
            "targets that learn, target and attacker, or train, which both share."
        )
    if "train" in others and len(others) > 1:
        raise UserError(
            f"has the parts {', '.join(sorted(names))}; expected train, or target and attacker."
        )
    return {test: "test", **others}


def by_hash(pixels: np.ndarray) -> np.ndarray:
    """Returns a place in [0, 1) for each image of `[N, H, W, C]` uint8, by a hash of its pixels.

    Grey images have the place of the same image in three equal channels. Series and rows, float64
    `[N, ...]`, have that of their values.
    """
    places = np.empty(len(pixels))
    for index, image in enumerate(pixels):
        is_grey = image.dtype == np.uint8 and image.shape[2] == 1
        whole = np.broadcast_to(image, (*image.shape[:2], 3)) if is_grey else image
        content = np.ascontiguousarray(whole).tobytes()
        digest = hashlib.sha256(f"{whole.shape} ".encode() + content).digest()
        places[index] = (int.from_bytes(digest[:8]) >> 11) / 2**53
    return places


def divide(
    given: Sequence[str | None], places: np.ndarray, *, in_order: bool
) -> tuple[np.ndarray, list[int]]:
    """Divides images among the parts.

    A part that no place falls into takes the next image, of few first the test part: it is empty
    only if there are fewer different images than parts.

    Args:
      given: for each image a part, "train", or None, as `named` has them.
      places: `[N]`, of each image, by its hash.
      in_order: whether images of a part stay in the order in which they come; otherwise, and where
        a hash divides them, they are in that of their places.

    Returns:
      The images' indices in the order target, attacker, test, and how many each part has.
    """
    part = np.array([PARTS.index(name) if name in PARTS else -1 for name in given], int)
    for kind, shares in _SHARES.items():
        chosen = np.array([name == kind for name in given], bool)
        part[chosen] = _shared(places[chosen], shares)
    moved = np.array([not in_order or name not in PARTS for name in given], bool)
    order = np.lexsort((np.where(moved, places, 0.0), part))
    return order, [int((part == number).sum()) for number in range(len(PARTS))]


def _shared(places: np.ndarray, shares: tuple[tuple[str, float], ...]) -> np.ndarray:
    """Returns the number of the part of each image."""
    different = np.unique(places)
    part, start = np.empty(len(places), int), 0
    for name, bound in shares:
        end = max(start + 1, int(np.searchsorted(different, bound)))
        part[np.isin(places, different[start:end])] = PARTS.index(name)
        start = end
    return part


def permute(array: np.ndarray, order: np.ndarray) -> None:
    """Brings the rows of an array into an order, in place: a row at a time is held twice."""
    done = np.zeros(len(order), bool)
    for start in range(len(order)):
        if done[start]:
            continue
        held, at = array[start].copy(), start
        while order[at] != start:
            array[at] = array[order[at]]
            done[at] = True
            at = order[at]
        array[at] = held
        done[at] = True
