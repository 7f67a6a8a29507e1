"""Whatever a config says, it is taken as it was said, or one line names the key: every key, every kind of value."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from video_vae.cli import main
from video_vae.config import Config, load_config, parse_config
from video_vae.config.runs import resolve
from video_vae.config.types import MAX
from video_vae.errors import UserError

ROOT = Path(__file__).parents[2]
PACKAGE = {"package": "clips", "version": "1", "sha256": "0" * 64, "members": ["*"]}
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 7, 1.5, -0.0, 10**30, -(10**30), MAX + 1, 10**400),
    *(math.nan, math.inf, -math.inf, 1e308, -1e308, 1e-320, "nan", "inf", "1e3", "1e999", "0x10", "yes"),
    *(
        "",
        " ",
        "x",
        "\x00",
        "a\nb",
        "a\x1b[31mb",
        "\ud800",
        "\u2028",
        "-rf",
        "a; touch /tmp/harmed",
        "$(id)",
        "{0}",
        "../..",
    ),
    *("http://host/x", "ftp://host/x", "file:///etc/passwd", "s3://bucket/x", "https://me:secret@host/x", "9" * 5000),
    *([], [[]], [1], [None], ["x", "x"], [""], [10**30] * 2, [math.nan] * 4, [0, 0], [True, True], ["\x00"]),
    *({}, {"a": 1}, {"a\nb": 3}, {"": 1}, {"steps": {}}, {"x" * 5000: 1}, {1: 2}, {None: 2}, {"a": {"a": {"a": {}}}}),
)


NAMED: dict[str, dict[str, Any]] = {"resources": PACKAGE, "compare": {"spatial": "theirs"}}
"""Sections of entries by name, and what an entry needs."""
LISTED: dict[str, dict[str, Any]] = {"buckets": {"resolution": [64, 64]}}
"""Lists of sections, and what an entry needs."""


def _keys(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        place = (*prefix, name, "clips") if name in NAMED else (*prefix, name)
        yield (*prefix, name)
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _keys(part, place)


KEYS = sorted(set(_keys(Config)))


def _config(key: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Set one key; a package needs its other keys as well, a rival's net its place, a discriminator pixels."""
    values: dict[str, Any] = {}
    if "discriminator" in key:
        values = {"stages": {key[1]: {"objective": "pixels"}}}
    if key[1:2] == ("clips",) and key[0] in NAMED and key[-1] != "videos":
        values = {key[0]: {"clips": dict(NAMED[key[0]])}}
    inner = values
    for part in key[:-1]:
        if part in LISTED:
            inner[part] = [dict(LISTED[part])]
            inner = inner[part][0]
        else:
            inner = inner.setdefault(part, {})
    inner[key[-1]] = value
    return values


def _same(found: Any, given: Any) -> bool:
    if isinstance(found, BaseModel) or isinstance(given, dict):
        return not given or found == given  # an empty section has its defaults
    if isinstance(found, tuple):
        return len(found) == len(given) and all(map(_same, found, given))
    if isinstance(found, bool) or found is None or isinstance(found, str):
        return bool(found == given or given == "yes" or " ".join(str(given).split()) == found)
    return bool(found == float(given))


def _check(key: tuple[str, ...], value: Any) -> None:
    try:
        config: Any = parse_config(_config(key, value))
        resolve(config)
    except UserError as error:
        line = str(error)
        assert line.isprintable() and len(line) < 1500, (value, line)
        assert key[-1] in line or "experiments" in line, (value, line)
        assert "secret" not in line
        return
    for part in key:
        config = config[part] if isinstance(config, dict) else getattr(config, part)
        config = config[0] if part in LISTED and part != key[-1] else config
    assert _same(config, value), (key, value, config)


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_a_value_is_taken_as_it_was_given_or_refused_by_its_key(key: tuple[str, ...]) -> None:
    for value in VALUES:
        _check(key, value)


def test_a_key_that_does_not_exist_is_named_wherever_it_stands() -> None:
    for key in KEYS:
        with pytest.raises(UserError, match=f"{key[-1]}x"):
            parse_config(_config((*key[:-1], f"{key[-1]}x"), 1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"temporal": {"base_channels": 30}}}, "model.temporal: norm_num_groups 32 does not divide 30"),
        ({"spatial": {"training": {"norm_num_groups": 5}}}, "spatial.training: norm_num_groups 5 does not divide 32"),
        ({"evaluation": {"flow": "raft"}}, "evaluation: flow: raft needs its weights; set flow_weights"),
        ({"evaluation": {"flow_weights": "http://host/x"}}, "flow_weights: a http address; give an https one"),
        ({"evaluation": {"flow_weights": "https://host/x"}}, "an address needs flow_sha256"),
        ({"evaluation": {"fvd_weights": "x.pt"}}, "fvd_sha256"),
        ({"evaluation": {"metrics": ["psnr", "psnr"]}}, "evaluation.metrics: 'psnr' is listed twice"),
        ({"data": {"sources": ["https://host/a.mp4"]}}, "data.sources.0: an address; download it"),
        ({"data": {"sources": [""]}}, "data.sources.0: an empty path"),
        (
            {"data": {"buckets": [{"resolution": [256, 252]}]}},
            "data.buckets.0.resolution: height and width must be mul",
        ),
        ({"data": {"buckets": [{"resolution": [8, 8], "share": 0}]}}, "data.buckets.0.share: Input should be greater"),
        (
            {"data": {"buckets": [{"resolution": [64, 96]}] * 2}},
            "data.buckets: 64x96 is listed twice; add up its shares",
        ),
        ({"data": {"buckets": [{"share": 1}]}}, "data.buckets.0.resolution: Field required"),
        ({"data": {"buckets": [{"resolution": [64, 64], "shar": 1}]}}, "unknown key data.buckets.0.shar; did you mean"),
        ({"stages": {"stage1": {"buckets": [{"resolution": [7, 8]}]}}}, "stages.stage1.buckets.0.resolution"),
        ({"experiment": "latents"}, "'latents' is a folder of the results; give the run another name"),
        ({"experiments": {"benchmarks": {}}}, "'benchmarks' is a folder of the results"),
        ({"resources": {"clips": PACKAGE | {"package": "x --index-url=http://host"}}}, "resources.clips.package"),
        ({"resources": {"clips": PACKAGE | {"version": "1\n-r other.txt"}}}, "resources.clips.version"),
    ],
)
def test_what_cannot_work_later_is_refused_at_once(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_config(values)
    assert message in str(error.value)


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/people/me")
    assert parse_config({"data": {"sources": ["~/clips"]}}).data.sources == ("/people/me/clips",)


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(VALUES)
_NESTED = st.recursive(_PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner))


@given(key=st.sampled_from(KEYS), value=_NESTED)
def test_any_value_is_taken_as_it_was_given_or_refused_by_its_key(key: tuple[str, ...], value: Any) -> None:
    _check(key, value)


@given(data=st.data())
def test_a_config_changed_at_any_places_never_ends_in_a_traceback(data: st.DataObject) -> None:
    values = yaml.safe_load((ROOT / "config/demo.yaml").read_text(encoding="utf-8"))
    for _ in range(data.draw(st.integers(1, 3))):
        section = values
        while inner := [value for value in section.values() if isinstance(value, dict)]:
            if data.draw(st.booleans()):
                break
            section = data.draw(st.sampled_from(inner))
        key = data.draw(st.sampled_from([*section, "surprise"]))
        section[data.draw(st.sampled_from([key, key, key, f"{key}_"]))] = deepcopy(data.draw(_NESTED))
    try:
        resolve(parse_config(values))
    except UserError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: 1\nseed: 2\n", "the key 'seed' is given twice"),
        (b"stages:\n  stage1: {steps: 1, steps: 2}\n", "the key 'steps' is given twice"),
        (b'{"seed": 1, "seed": 2}', "the key 'seed' is given twice"),
        (b"- 1\n", "Input should be a valid dictionary"),
        (b"5\n", "Input should be a valid dictionary"),
        (b"seed: [\n", "is not YAML"),
        (b"seed: !!python/object/apply:os.system ['true']\n", "is not YAML: could not determine a constructor"),
        (b"report: {title: 2026-99-99}\n", "is not YAML"),
        (b"seed: " + b"9" * 5000 + b"\n", "is not YAML: Exceeds the limit"),
        (b"seed: " + b"[" * 5000 + b"]" * 5000, "is not YAML: nested too deeply"),
        (b"report: {title: \xff}\n", "is not UTF-8"),
        (b'report: {title: "\x00"}\n', "is not YAML"),
        (b"{1: 2}\n", "1: "),
    ],
)
def test_a_file_that_is_no_config_is_refused_in_one_line(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    assert main(["manifest", str(path)]) == 2
    written = capsys.readouterr().err
    assert message in written and written.count("\n") == 1, written


def test_a_missing_config_and_broken_json_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in (str(tmp_path / "none.yaml"), str(tmp_path), "{", '{"seed": 1', '{"seed": 1, "seed": 2}', "{" * 9999):
        assert main(["manifest", source]) == 2
        written = capsys.readouterr().err
        assert written.count("\n") == 1 and "config" in written, written


def test_aliases_that_multiply_cost_neither_time_nor_memory(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 12)]
    (tmp_path / "bomb.yaml").write_text("\n".join([*lines, "seed: *a11", ""]), encoding="utf-8")
    with pytest.raises(UserError, match=r"seed|unknown key a0"):
        load_config(tmp_path / "bomb.yaml")


def test_keys_that_yaml_merges_may_be_overridden() -> None:
    assert load_config(ROOT / "config/demo.yaml").stages.of("stage2").steps == 400


def test_nets_larger_than_the_memory_are_refused_before_any_of_it_is_taken() -> None:
    from video_vae.training.spatial import build
    from video_vae.weights.loading import build_temporal

    values = {
        "model": {"temporal": {"base_channels": 8192, "channel_multipliers": [1, 64], "temporal_downsample": [True]}},
        "spatial": {"training": {"block_out_channels": [8192] * 4, "layers_per_block": 64}},
    }
    config = parse_config(values)
    with pytest.raises(UserError, match=r"model\.temporal: [\d,]+ parameters take [\d,]+ GB"):
        build_temporal(config.model.temporal, seed=0)
    with pytest.raises(UserError, match=r"spatial\.training: [\d,]+ parameters take [\d,]+ GB"):
        build(config.spatial.training, seed=0)
