"""Views of training frames."""

import pytest
import torch
from torch.nn.functional import pad

from sw.data import Views
from sw.recipe import Recipe

PLAIN = Recipe(crop=0)


def views(frames, recipe, seed=0, epoch=0, numbers=None):
    made = Views(frames, torch.arange(len(frames)), recipe, seed)
    made.epoch = epoch
    chosen = list(range(len(frames))) if numbers is None else numbers
    seen, labels = made.__getitems__(chosen)
    assert labels.tolist() == chosen
    return seen


def frames(*shape):
    return torch.randint(1, 256, shape, dtype=torch.uint8)


def among(view, options):
    """Number of the only one of ``options`` that is ``view``."""
    (found,) = [n for n, option in enumerate(options) if torch.equal(view, option)]
    return found


@pytest.mark.parametrize("steps", [(), (3,)])
def test_crop_moves_each_frame_and_zeros_come_in(steps):
    originals = frames(64, *steps, 2, 6, 7)
    padded = pad(originals, [2] * 4)
    seen = {
        among(view, [moved[..., y : y + 6, x : x + 7] for y in range(5) for x in range(5)])
        for view, moved in zip(views(originals, PLAIN.replace(crop=2)), padded, strict=True)
    }
    assert len(seen) > 20


@pytest.mark.parametrize("steps", [(), (3,)])
def test_roll_brings_in_again_what_leaves(steps):
    originals = frames(64, *steps, 2, 6, 7)
    moves = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    seen = {
        among(view, [frame.roll(move, (-2, -1)) for move in moves])
        for view, frame in zip(views(originals, PLAIN.replace(roll=1)), originals, strict=True)
    }
    assert seen == set(range(9))


def test_flip_mirrors_half_of_the_frames():
    originals = frames(400, 2, 4, 5)
    seen = [
        among(view, [frame, frame.flip(-1)])
        for view, frame in zip(views(originals, PLAIN.replace(flip=True)), originals, strict=True)
    ]
    assert 160 < sum(seen) < 240


@pytest.mark.parametrize("side", [1, 4, 5])
def test_cutout_takes_a_square_around_any_pixel(side):
    originals = frames(1500, 3, 8, 9)
    empty = views(originals, PLAIN.replace(cutout=side)) == 0
    assert torch.equal(empty[:, 0], empty[:, 1]) and torch.equal(empty[:, 0], empty[:, 2])
    kept = ~empty
    assert torch.equal(views(originals, PLAIN.replace(cutout=side))[kept], originals[kept])
    rows, columns = empty[:, 0].any(2).sum(1), empty[:, 0].any(1).sum(1)
    assert torch.equal(empty[:, 0].sum((1, 2)), rows * columns)
    # Whole in the middle, less at the border.
    assert rows.max() == columns.max() == side
    assert rows.min() == side - side // 2 or side == 1
    assert empty.any(0).all()


def test_auto_augment_is_torchvisions_and_leaves_other_draws_alone():
    originals = frames(40, 3, 16, 16)
    recipe = PLAIN.replace(auto_augment="cifar10")
    state = torch.get_rng_state()
    seen = views(originals, recipe)
    assert torch.equal(torch.get_rng_state(), state)
    changed = (seen != originals).flatten(1).any(1).sum()
    assert 10 < changed <= 40 and seen.dtype == torch.uint8


@pytest.mark.parametrize("recipe", [
    Recipe(crop=3, flip=True, cutout=4), PLAIN.replace(roll=2),
    PLAIN.replace(auto_augment="cifar10"),
])
def test_a_view_depends_on_seed_epoch_and_number_alone(recipe):
    originals = frames(32, 3, 12, 12)
    whole = views(originals, recipe)
    assert torch.equal(whole, views(originals, recipe))
    chosen = [5, 30, 2]
    assert torch.equal(views(originals, recipe, numbers=chosen), whole[chosen])
    for other in (views(originals, recipe, seed=1), views(originals, recipe, epoch=1)):
        assert (other != whole).flatten(1).any(1).float().mean() > 0.5


def test_without_augmentation_frames_stay():
    originals = frames(8, 2, 5, 5)
    assert torch.equal(views(originals, PLAIN), originals)
