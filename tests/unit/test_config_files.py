"""The configs and what is generated from the settings' models: complete, to the letter, up to date."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from video_vae.cli import run_tool
from video_vae.config import STAGES, Config, Discriminator, docs, load_config, parse_config, slices
from video_vae.config.docs import README, SCHEMA, key_tables
from video_vae.config.errors import known_keys
from video_vae.config.files import read_settings
from video_vae.errors import UserError

ROOT = Path(__file__).parents[2]


def _leaves(values: Any, prefix: str = "") -> set[str]:
    if not isinstance(values, dict):
        return {prefix.rstrip(".")}
    return {prefix.rstrip(".")}.union(*(_leaves(value, f"{prefix}{key}.") for key, value in values.items()))


def test_config_yaml_is_the_paper_to_the_letter() -> None:
    config = load_config(ROOT / "config/config.yaml")
    stages = [config.stages.of(name) for name in STAGES]
    assert [stage.steps for stage in stages] == [380_000, 260_000, 540_000]
    assert [stage.global_batch for stage in stages] == [8, 8, 24]
    assert [stage.frames for stage in stages] == [(17, 17), (17, 17), (1, 33)]
    assert [stage.identity_weight for stage in stages] == [1, 0, 0]
    assert [stage.train_spatial for stage in stages] == [False, False, True]
    assert [stage.image_share for stage in stages] == [0.2] * 3
    assert [stage.kl_weight for stage in stages] == [1e-6] * 3
    assert config.data.resolution == (256, 256)
    assert (config.spatial.pretrained, config.spatial.subfolder) == (
        "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
        "vae",
    )


def test_defaults_are_the_papers() -> None:
    values = load_config(ROOT / "config/config.yaml").model_dump()
    values["spatial"]["subfolder"] = None
    assert parse_config(values) == Config()


def test_config_yaml_holds_and_explains_every_key() -> None:
    text = (ROOT / "config/config.yaml").read_text(encoding="utf-8")
    wanted = {key for key in known_keys(Config) if not key.startswith(("resources.", "compare.", "data.buckets."))}
    wanted = {key for key in wanted if ".discriminator." not in key}
    assert wanted - _leaves(yaml.safe_load(text)) == set()
    lines = text.splitlines()
    keys = [number for number, line in enumerate(lines) if line.strip() and not line.lstrip().startswith(("#", "-"))]
    bare = [lines[number] for number in keys if not lines[number - 1].lstrip().startswith("#")]
    allowed = ("lpips", "stage2", "stage3", "<<", "steps", "identity_weight", "global_batch", "frames", "objective")
    assert [line for line in bare if line.split(":")[0].strip() not in (*allowed, "train_spatial")] == []


def test_config_yaml_names_what_a_discriminator_has() -> None:
    lines = iter((ROOT / "config/config.yaml").read_text(encoding="utf-8").splitlines())
    given = next(next(lines) for line in lines if line.lstrip("# ") == "discriminator:")
    assert yaml.safe_load(given.lstrip("# ")) == Discriminator().model_dump()


def test_demo_has_the_papers_shape_in_small() -> None:
    demo = load_config(ROOT / "config/demo.yaml")
    assert demo.experiment == "demo"
    assert demo.model.temporal.channel_multipliers == Config().model.temporal.channel_multipliers
    for stage in STAGES:
        small, full = getattr(demo.stages, stage), getattr(Config().stages, stage)
        same = (
            "objective",
            "train_spatial",
            "image_share",
            "frames",
            "kl_weight",
            "perceptual_weight",
            "identity_weight",
        )
        assert {key: getattr(small, key) for key in same} == {key: getattr(full, key) for key in same}


@pytest.mark.parametrize("name", ["demo", "reference"])
def test_no_file_that_is_held_out_is_trained_on_in_any_part(name: str) -> None:
    with (ROOT / "config" / f"{name}_clips.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    sides = {side: {row["path"] for row in rows if row["split"] == side} for side in ("train", "test")}
    assert len(sides["test"]) == 6 and not sides["train"] & sides["test"]
    packages = set(load_config(ROOT / "config" / f"{name}.yaml").data.packages)
    assert {path.split("/")[1] for path in set.union(*sides.values())} <= packages
    if name == "reference":
        demo = (ROOT / "config/demo_clips.csv").read_text(encoding="utf-8").splitlines()
        assert set(demo) <= {",".join(row.values()) for row in rows} | {demo[0]}


def _generate(*arguments: str) -> int:
    return run_tool(docs, "config.docs", "--check", arguments)


def test_generated_files_are_up_to_date() -> None:
    assert _generate("--check", "--root", str(ROOT)) == 0, "run `make config` and commit the result"


def test_stale_file_names_the_command_that_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / README).write_text((ROOT / README).read_text(encoding="utf-8"), encoding="utf-8")
    assert _generate("--check", "--root", str(tmp_path)) == 2
    assert "run `make config`" in capsys.readouterr().err
    assert _generate("--root", str(tmp_path)) == 0
    assert (tmp_path / SCHEMA).read_text(encoding="utf-8") == (ROOT / SCHEMA).read_text(encoding="utf-8")
    assert _generate("--check", "--root", str(tmp_path)) == 0


def test_table_names_every_key_with_its_meaning() -> None:
    table = key_tables()
    for key in known_keys(Config.model_fields["data"].annotation):  # type: ignore[arg-type]
        assert f"`data.{key}`" in table
    assert "| `stages.*.steps` | stage1: `380000`, stage2: `260000`, stage3: `540000` |" in table
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    assert all(len(row) == 4 and len(row[3]) > 5 for row in rows)


def test_schema_refuses_unknown_keys_everywhere() -> None:
    schema = yaml.safe_load((ROOT / SCHEMA).read_text(encoding="utf-8"))
    closed = [schema, *schema["$defs"].values()]
    assert all(part["additionalProperties"] is False for part in closed)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stagess": {}}, "unknown key stagess; did you mean stages?"),
        ({"stages": {"stage1": {"learning_rat": 1}}}, "did you mean stages.stage1.learning_rate?"),
        ({"data": {"resolution": [100, 96]}}, "data.resolution: height and width must be multiples of 8"),
        ({"stages": {"stage2": {"steps": 5, "epochs": 1}}}, "stages.stage2: give either steps or epochs"),
    ],
)
def test_wrong_settings_name_the_key_and_the_cure(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_config(values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_as_the_workflow_writes_them_say_the_same_as_the_config(tmp_path: Path) -> None:
    config = parse_config({"stages": {"stage1": {"learning_rate": 3e-5}}, "report": {"title": "on: \u5317 \x85\u2028"}})
    written = tmp_path / "report.json"
    written.write_text(slices.as_text(slices.report_slice(config)), encoding="utf-8")
    assert read_settings(written)["stages"]["stage1"]["learning_rate"] == 3e-5
    assert load_config(written) == config
    written.write_text("# a comment, which YAML has\nseed: 3\n", encoding="utf-8")
    assert load_config(written).seed == 3


def test_long_settings_are_read_at_once(tmp_path: Path) -> None:
    sources = [f"{number:0100}" for number in range(30_000)]
    written = tmp_path / "manifest.json"
    written.write_text(slices.as_text({"data": {"sources": sources}}), encoding="utf-8")
    start = time.process_time()
    assert list(load_config(written).data.sources) == sources
    assert time.process_time() - start < 3
    twice = tmp_path / "twice.json"
    twice.write_text('{"seed": 1, "seed": 2}', encoding="utf-8")
    with pytest.raises(UserError, match="the key 'seed' is given twice"):
        load_config(twice)
