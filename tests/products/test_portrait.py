"""The portrait nets, brought and converted, agree with MediaPipe's own runtime on real photographs."""

import subprocess
import tomllib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import skimage.data

import vpipe_mask
from tests.unit.test_engine import run
from vpipe.engine import Manifest
from vpipe.errors import ResourceError
from vpipe.models import ensure
from vpipe_mask import mediapipe_env
from vpipe_mask.portrait import MANIFESTS, SHA256

NETS = {"portrait": (256, 144, 1), "portrait/square": (256, 256, 0)}
"""Columns, rows, and MediaPipe's number of the net."""

REFERENCE = """
import sys
import numpy as np
from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

pictures = np.load(sys.argv[1])
masks = {}
for name in pictures.files:
    with SelfieSegmentation(model_selection=int(name[0])) as net:
        masks[name] = net.process(pictures[name]).segmentation_mask
np.savez(sys.argv[2], **masks)
"""


@pytest.fixture(scope="module")
def photographs(samples: Path) -> dict[str, np.ndarray]:
    """People, one from a film, an animal, a thing: uint8, (h, w, 3), RGB."""
    with av.open(str(samples / "person-good.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    return {
        "astronaut": skimage.data.astronaut(),
        "camera": cv2.cvtColor(skimage.data.camera(), cv2.COLOR_GRAY2RGB),
        "person": frames[0],
        "person later": frames[len(frames) // 2],
        "cat": skimage.data.chelsea(),
        "coffee": skimage.data.coffee(),
    }


@pytest.fixture(scope="module")
def pictures(photographs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The photographs at the size of each net, so that no resize of anyone differs, by MediaPipe's number and name."""
    return {
        f"{number} {name}": cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
        for width, height, number in NETS.values()
        for name, photo in photographs.items()
    }


@pytest.fixture(scope="module")
def reference(pictures: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What MediaPipe makes of them: float32, (h, w), 0..1."""
    folder = tmp_path_factory.mktemp("mediapipe")
    np.savez(folder / "pictures.npz", **pictures)
    try:
        # In the user's cache and not in the session's own: it is 300 MB, and nothing under test.
        python = mediapipe_env.interpreter(Path.home() / ".cache" / "vpipe" / "environments")
    except ResourceError as error:
        if "needs Python" in str(error):
            pytest.skip(str(error))
        raise
    command = [str(python), "-I", "-c", REFERENCE, str(folder / "pictures.npz"), str(folder / "masks.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "masks.npz") as masks:
        return dict(masks)


@pytest.mark.parametrize("name", NETS)
def test_masks_agree_with_mediapipes_own_runtime(
    name: str, pictures: dict[str, np.ndarray], reference: dict[str, np.ndarray]
) -> None:
    width, height, number = NETS[name]
    manifest = Manifest.load(ensure(name, progress=False))
    for key in (key for key in pictures if key[0] == str(number)):
        mask = run(manifest, pictures[key][None])["mask"][0]
        assert (mask.dtype, mask.shape) == (np.uint8, (height, width))
        difference = np.abs(mask / 255 - reference[key]).mean()
        ours, theirs = mask > 127, reference[key] > 0.5
        iou = (ours & theirs).sum() / (ours | theirs).sum()
        assert difference < 0.01, f"{key}: mean absolute difference {difference:.4f}"
        assert iou >= 0.99, f"{key}: IoU {iou:.4f}"


def test_person_is_found_where_the_person_is(photographs: dict[str, np.ndarray]) -> None:
    picture = cv2.resize(photographs["astronaut"], (256, 256), interpolation=cv2.INTER_AREA)
    mask = run(Manifest.load(ensure("portrait/square", progress=False)), picture[None])["mask"][0]
    assert mask[40:90, 95:130].mean() > 240, "her face"
    assert mask[10:60, 10:50].mean() < 15, "the flag behind her"


def test_manifests_are_of_the_version_that_the_plugin_tells() -> None:
    wanted = vpipe_mask.plugin.models["portrait"].version
    for path in MANIFESTS.glob("*.toml"):
        assert tomllib.loads(path.read_text())["version"] == wanted
    assert len(list(MANIFESTS.glob("*.toml"))) == len(NETS)


def test_fetched_model_brings_its_licence_and_keeps_no_wheel() -> None:
    folder = ensure("portrait", progress=False).parent
    names = {path.name for path in folder.iterdir()}
    files = {f"{name}{suffix}" for name in ("landscape", "square") for suffix in (".xml", ".bin")}
    assert names == {"LICENSE", "model.toml", "square.toml", *files}
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert len(SHA256) == 3


def test_environment_without_a_suitable_python_says_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mediapipe_env, "VERSIONS", ((3, 4),))
    with pytest.raises(ResourceError, match=r"needs Python 3\.4; put one on PATH"):
        mediapipe_env.interpreter(tmp_path)


def test_environment_that_cannot_be_made_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ResourceError, match=r"mediapipe's environment: .* failed: ERROR: "):
        mediapipe_env.interpreter(tmp_path)
    assert list(tmp_path.iterdir()) == []
