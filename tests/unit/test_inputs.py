"""A path in the config that leads nowhere is named in a line of its own, with its key, before anything runs."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from pydantic import AfterValidator, BaseModel

from finished_run import written
from video_vae.config import Config, parse_config
from video_vae.config.runs import resolve
from video_vae.config.slices import data_slice
from video_vae.config.types import LocalPath, PathText
from video_vae.data.sources import collect
from video_vae.doctor.inputs import missing_inputs
from video_vae.errors import UserError
from video_vae.files import absence
from video_vae.provenance import write_json_atomic

RESULTS = Path("results")
WEIGHTS = "diffusion_pytorch_model"
LOST = "no/such place"
NO_INPUTS = {"resources.*.members"}
"""Paths inside a package."""


def lines(**settings: Any) -> list[str]:
    return missing_inputs(resolve(parse_config({"spatial": {"pretrained": None}, **settings})), RESULTS)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with clips, a table, and a spatial VAE."""
    monkeypatch.chdir(tmp_path)
    for name in ("clips/cats/one.mp4", "table.csv", "vae/config.json", f"vae/{WEIGHTS}.safetensors", "flow.pt"):
        written(tmp_path / name, "")
    return tmp_path


def path_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings that are paths; `*` stands for any name."""
    for name, hint in get_type_hints(model, include_extras=True).items():
        if name in model.model_fields:
            yield from _of_type(hint, f"{prefix}{name}")


def _of_type(hint: Any, key: str) -> Iterator[str]:
    if hint in (LocalPath, PathText):
        yield key
    elif isinstance(hint, type) and issubclass(hint, BaseModel):
        yield from path_keys(hint, f"{key}.")
    elif get_origin(hint) in (dict, Mapping):
        yield from _of_type(get_args(hint)[1], f"{key}.*")
    elif get_origin(hint) in (typing.Annotated, typing.Union, types.UnionType, tuple):
        for inner in dict.fromkeys(get_args(hint)):
            if not isinstance(inner, AfterValidator):
                yield from _of_type(inner, key)


PATHS: dict[str, Any] = {
    "data.sources": ["clips", LOST],
    "data.root": LOST,
    "spatial.pretrained": LOST,
    "spatial.subfolder": LOST,
    "model.pretrained": LOST,
    "model.subfolder": LOST,
    "evaluation.flow_weights": LOST,
    "evaluation.fvd_weights": LOST,
    "compare.x.spatial": LOST,
    "compare.x.subfolder": LOST,
    "compare.x.videos": LOST,
}


def test_every_setting_that_is_a_path_is_looked_at() -> None:
    keys = {key.replace("compare.x.", "compare.*.") for key in PATHS}
    assert set(path_keys(Config)) - NO_INPUTS == keys, "tell doctor/inputs.py of the new path, and PATHS here"


def _with(key: str, value: Any) -> dict[str, Any]:
    *sections, name = key.split(".")
    needed = {"spatial.subfolder": {"pretrained": "vae"}, "evaluation.fvd_weights": {"fvd_sha256": "0" * 64}}
    needed |= {"compare.x.subfolder": {"spatial": "vae"}, "model.subfolder": {"pretrained": "vae"}}
    found = {**needed.get(key, {}), name: value}
    for section in reversed(sections):
        found = {section: found}
    return found


@pytest.mark.parametrize("key", PATHS)
def test_a_path_that_leads_nowhere_is_named_with_its_key(key: str, place: Path) -> None:
    (line,) = lines(**_with(key, PATHS[key]))
    assert line.startswith(f"{key}: ") and LOST in line and "does not exist" in line
    changed = {"b": _with(key, PATHS[key]), "c": _with(key, PATHS[key])}
    assert lines(experiments=changed) == [line.replace(key, f"experiments.b.{key}", 1)]
    absolute = str(place / LOST)
    (line,) = lines(**_with(key, [absolute] if key == "data.sources" else absolute))
    assert line.startswith(f"{key}: ") and absolute in line


def test_what_is_there_is_not_named(place: Path) -> None:
    spatial = {"pretrained": "vae"}
    data = {"sources": ["clips", "table.csv", str(place / "clips/cats/one.mp4")], "root": str(place)}
    weights = {"flow_weights": "flow.pt", "fvd_weights": "flow.pt", "fvd_sha256": "0" * 64}
    assert lines(data=data, spatial=spatial, evaluation=weights) == []
    assert lines(spatial={"pretrained": "owner/a_model", "subfolder": "vae"}) == []
    assert lines(evaluation={"flow_weights": "https://a.b/c.pt", "flow_sha256": "0" * 64}) == []


def test_all_missing_things_are_named_at_once() -> None:
    found = lines(data={"sources": ["one", "two"]}, spatial={"pretrained": "a/b/c"}, evaluation={"flow_weights": "x"})
    keys = [line.split(":")[0] for line in found]
    assert keys == ["data.sources", "data.sources", "spatial.pretrained", "evaluation.flow_weights"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("data.sources", ["clipz"], "did you mean clips?"),
        ("data.sources", ["clips/cat/one.mp4"], "did you mean clips/cats/one.mp4?"),
        ("data.sources", ["dangling"], "is a link to gone, which does not exist"),
        ("data.sources", ["table.csv/x"], "does not exist"),
        ("data.root", "table.csv", "is not a folder"),
        ("spatial.pretrained", "vaes/sdxl", "did you mean vaes/sdxl2?"),
        ("spatial.pretrained", "word", "a model on a hub (OWNER/NAME)"),
        ("evaluation.flow_weights", "clips", "is not a file"),
        ("evaluation.fvd_weights", "flow.py", "did you mean flow.pt?"),
        ("compare.x.videos", "table.csv", "is not a folder; correct the path, or set compare.x: null"),
        ("compare.x.spatial", "vaes/sdxl", "did you mean vaes/sdxl2?"),
    ],
)
def test_a_wrong_path_is_told_with_what_may_be_meant(place: Path, key: str, value: Any, said: str) -> None:
    (place / "dangling").symlink_to("gone")
    (place / "vaes" / "sdxl2").mkdir(parents=True)
    (line,) = lines(**_with(key, value))
    assert line.startswith(f"{key}: ") and said in line


FOLDERS = {
    "whole": ([f"{WEIGHTS}.safetensors"], None),
    "variant": ([f"{WEIGHTS}.fp16.safetensors"], None),
    "pickle": ([f"{WEIGHTS}.bin"], None),
    "shards": ([f"{WEIGHTS}.safetensors.index.json", f"{WEIGHTS}-1-of-1.safetensors"], None),
    "no weights": ([], "0 weight files (it holds config.json)"),
    "no shard": ([f"{WEIGHTS}.safetensors.index.json"], f"{WEIGHTS}-1-of-1.safetensors not found"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_spatial_vae_is_whole_or_what_it_lacks_is_named(place: Path, kind: str) -> None:
    names, said = FOLDERS[kind]
    written(place / "other" / "config.json", "{}")
    for name in names:
        written(place / "other" / name, f'{{"weight_map": {{"a": "{WEIGHTS}-1-of-1.safetensors"}}}}')
    found = lines(spatial={"pretrained": "other"})
    assert (found == []) if said is None else (len(found) == 1 and said in found[0])
    (place / "other" / "config.json").unlink()
    assert len(lines(spatial={"pretrained": "other"})) == 1


def test_clips_that_were_moved_away_leave_what_was_made_of_them(place: Path) -> None:
    data = {"sources": ["clips"], "min_frames": 9}
    record = {"config": data_slice(parse_config({"data": data}))}
    write_json_atomic(RESULTS / "mine/data/run.json", record)
    (place / "clips").rename(place / "archive")
    (line,) = lines(experiment="mine", data=data)
    assert line.startswith("data.sources: clips does not exist") and "data.archived: true" in line
    assert lines(experiment="mine", data=data | {"archived": True}) == []
    for other in ({"sources": ["clipz"]}, {"min_frames": 5}):
        (line,) = lines(experiment="mine", data=data | other)
        assert line.startswith("data.sources: ") and "archived" not in line
        (line,) = lines(experiment="mine", data=data | other | {"archived": True})
        assert line.startswith("data.archived: ") and "results/mine/data was not made with these settings" in line
    assert lines(experiment="new", data=data | {"archived": True})[0].startswith("data.archived: ")


def test_a_file_of_a_package_that_is_gone_is_named_until_the_package_is_fetched_again(place: Path) -> None:
    package = {"package": "clips", "version": "1", "sha256": "0" * 64, "members": ["*"]}
    settings = {"resources": {"pets": package}, "data": {"sources": ["table.csv"], "packages": ["pets"]}}
    assert lines(**settings) == []  # the run fetches it
    for name in ("a.mp4", "b.mp4"):
        written(place / "resources/pets" / name, "")
    written(place / "resources/pets/files.json", '{"a.mp4": "", "b.mp4": ""}')
    assert lines(**settings) == []
    (place / "resources/pets/b.mp4").unlink()
    (line,) = lines(**settings)
    assert line.startswith("data.packages: resources/pets/b.mp4 is gone") and "delete resources/pets/files.json" in line
    (place / "resources/pets/files.json").unlink()
    assert lines(**settings) == []


def test_a_manifest_names_a_lost_source_alike(place: Path) -> None:
    with pytest.raises(UserError, match=r"data.sources: clipz does not exist .*did you mean clips\?"):
        collect(["clipz"])
    assert absence(place) == absence("clips") == ""
