"""How the score model's data is made: the split, what is done to a clip, and what is said to be wrong with it."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts/train_score"


@pytest.fixture(scope="module", autouse=True)
def scripts_at_hand() -> Iterator[None]:
    """Let the scripts be imported as they import each other."""
    before = set(sys.modules)
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))
    for name in set(sys.modules) - before:
        if (SCRIPTS / f"{name}.py").exists():
            del sys.modules[name]


@pytest.fixture(scope="module")
def screen() -> Any:
    """A content that is drawn, so that no package is needed; small, and something in it moves."""
    import sources

    content = sources.load_split()["screen3-0"]
    return replace(content, size=(320, 180))


def test_all_that_is_made_of_a_picture_is_on_one_side_of_the_split() -> None:
    contents = json.loads((SCRIPTS / "split.json").read_text())["contents"]
    import sources

    sides: dict[str, set[str]] = {}
    for content in sources.load_split().values():
        sides.setdefault(content.group, set()).add(content.split)
        assert content.look in {"train": (0, 1, 3, 4, 6), "validation": (0, 1, 2, 5), "test": (0, 2, 5)}[content.split]
    assert all(len(split) == 1 for split in sides.values())
    assert len({content["id"] for content in contents}) == len(contents)
    assert all(c["split"] == "train" for c in contents if c["group"].startswith("game-"))
    assert all(c["split"] != "test" for c in contents if c["group"].startswith("photo-"))
    unseen = [c for c in contents if c["split"] == "test"]
    assert len(unseen) >= 60
    assert sum(c["kind"] == "real" for c in unseen) >= 6


def test_recipes_follow_from_the_content_alone(screen: Any) -> None:
    import recipes

    for look in range(6):
        content = replace(screen, look=look)
        assert recipes.recipes(content) == recipes.recipes(content)
        assert recipes.recipes(content) != recipes.recipes(replace(content, seed=content.seed + 1))
    kinds = {recipe.kind for recipe in recipes.recipes(replace(screen, look=0))}
    assert {"pristine", "codec", "rescale", "blur", "noise"} <= kinds
    assert {recipe.kind for recipe in recipes.recipes(replace(screen, look=2))} == {"interlaced", "damaged"}


def test_same_recipe_gives_the_same_clip_and_leaves_the_pristine_one_alone(screen: Any, tmp_path: Path) -> None:
    import degrade
    import recipes
    import render

    pristine = render.render(tmp_path, screen)
    before = pristine.copy()
    for recipe in [recipe for look in (0, 2, 5) for recipe in recipes.recipes(replace(screen, look=look))]:
        spoiled = degrade.apply(pristine, recipe)
        assert spoiled.clip.shape == pristine.shape, recipe
        assert (spoiled.clip == pristine).all() == (recipe.kind == "pristine"), recipe
        assert len(spoiled.present) == len(pristine)
    assert (pristine == before).all()
    assert (render.render(tmp_path, screen) == pristine).all()
    again = [degrade.apply(pristine, recipe).clip for _ in range(2)]
    assert (again[0] == again[1]).all()


def test_comb_is_told_where_something_moves_and_not_where_nothing_does() -> None:
    import label

    rng = np.random.default_rng(0)
    still = rng.integers(0, 255, (224, 224), dtype=np.uint8)
    moved = np.roll(still, 5, axis=1)
    woven = still.copy()
    woven[1::2] = moved[1::2]
    assert label.combed(still, woven) == 1.0
    assert label.combed(still, still) == 0.0
    little = still.copy()
    little[1:32:2, :32] = moved[1:32:2, :32]
    assert label.combed(still, little) == -1.0, "one patch of 49: neither"


def test_faults_of_a_clip_are_those_of_its_recipe() -> None:
    import recipes

    def of(vmaf: float, **recipe: Any) -> dict[str, float]:
        told = recipes.fault_targets(recipes.Recipe(**recipe), vmaf, 0.0)
        return dict(zip(recipes.FAULTS, told, strict=True))

    assert set(of(99, kind="pristine").values()) == {0.0}
    assert of(40, kind="codec", codec="x264", level=0.9)["compression"] == 1.0
    assert of(88, kind="codec", codec="x264", level=0.4)["compression"] == -1.0, "hard to tell: neither"
    assert of(60, kind="codec", codec="av1", level=0.4, amount=2.0) == of(
        60, kind="rescale", codec="av1", level=0.4, amount=2.0
    )
    assert of(60, kind="blur", amount=2.0)["blurred"] == 1.0
    assert of(60, kind="noise", amount=9.0)["noisy"] == 1.0
    assert of(60, kind="rescale", amount=2.0) | {"blurred": 0.0} == of(60, kind="pristine") | {"upscaled": 1.0}
    assert of(60, kind="banded", amount=16.0)["banded"] == 1.0
    assert of(60, kind="interlaced", style=1)["interlaced"] == -1.0, "settled for each mosaic"


def test_lost_packets_never_take_the_tables_and_always_something() -> None:
    import degrade

    data = bytes(range(188)) * 60
    kept = degrade._lose_packets(data, 0.001, np.random.default_rng(3))
    assert len(kept) % 188 == 0
    assert 0 < len(data) - len(kept) < len(data) / 2
    assert kept[: 188 * 9] == data[: 188 * 9]
