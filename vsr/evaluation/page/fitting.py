"""The pictures of a page: those of several results joined, and few and coarse enough for one file."""

from collections.abc import Mapping, Sequence

from vsr.evaluation.page.album import MOST_SHOTS, PER_CLIP, Shot, limited
from vsr.evaluation.page.images import Images, coarser

MOST_BYTES = 20_000_000  # of the pictures of a page
# frames of a clip, and quality of JPEG (None: as it is), tried one after another
STEPS = ((PER_CLIP, None), (PER_CLIP, 88), (3, 88), (2, 88), (2, 80), (1, 80), (1, 65), (1, 45), (1, 25))
FIXED = "chosen", "middle", "first", "last"  # kinds of shots that do not depend on the result


def joined(shots: Mapping[str, list[Shot]]) -> list[Shot]:
    """Returns the shots of several results, by label, as one: of frames that at least two of them have.

    The pictures of a network, the differences and the memory's weights are named by the label of the result.
    """
    shots = {label: own for label, own in shots.items() if own}
    if len(shots) < 2:
        return [shot for own in shots.values() for shot in own]
    found: dict[tuple[str, str], dict[str, Shot]] = {}  # by clip and frame, and by label
    for label, own in shots.items():
        for shot in own:
            found.setdefault((shot.clip, shot.frame), {})[label] = shot
    return [_one_of(own) for own in found.values() if len(own) > 1]


def _one_of(shots: dict[str, Shot]) -> Shot:
    first = next(iter(shots.values()))
    images: Images = {name: first.images[name] for name in first.images if name not in ("network", "GT", "difference")}
    images |= {label: shot.images["network"] for label, shot in shots.items() if "network" in shot.images}
    images |= {"GT": first.images["GT"]} if "GT" in first.images else {}
    images |= {f"difference {label}": s.images["difference"] for label, s in shots.items() if "difference" in s.images}
    weights = {f"{label}: {title}": image for label, shot in shots.items() for title, image in shot.weights.items()}
    all_kinds = dict.fromkeys(kind for shot in shots.values() for kind in shot.kinds)
    of = {kind: " and ".join(label for label, shot in shots.items() if kind in shot.kinds) for kind in all_kinds}
    kinds = tuple(kind if kind in FIXED else f"{kind} of {of[kind]}" for kind in all_kinds)
    return first._replace(kinds=kinds, value=None, images=images, weights=weights)


def fitting(shots: Mapping[str, list[Shot]]) -> dict[str, list[Shot]]:
    """Returns the shots of each test set, fewer or coarser ones if a page could not hold them all."""
    most = MOST_SHOTS // max(len(shots), 1)
    all_of = {name: limited(own, most) for name, own in shots.items()}
    for per_clip, quality in STEPS:
        kept = {name: limited(own, most, per_clip) for name, own in all_of.items()}
        if quality is not None:
            kept = {name: [_coarser(shot, quality) for shot in own] for name, own in kept.items()}
        if bytes_of(kept) <= MOST_BYTES:
            return kept
    while bytes_of(kept) > MOST_BYTES:
        kept = {name: own[: len(own) // 2] for name, own in kept.items()}
    return kept


def _coarser(shot: Shot, quality: int) -> Shot:
    return shot._replace(images=coarser(shot.images, quality), weights=coarser(shot.weights, quality))


def bytes_of(shots: Mapping[str, Sequence[Shot]]) -> float:
    """Returns the bytes that pictures take in a page."""
    images = [image for own in shots.values() for s in own for image in (*s.images.values(), *s.weights.values())]
    return sum(map(len, images)) * 4 / 3
