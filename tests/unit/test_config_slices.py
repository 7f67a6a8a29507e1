"""A job's slice holds what it reads and no more; runs of one config share what they have in common."""

from __future__ import annotations

import json
from typing import Any

import pytest

from video_vae.config import STAGES, Config, parse_config, slices
from video_vae.config.runs import data_owner, evaluation_owner, reconstruction_owner, resolve, stage_owner
from video_vae.errors import UserError

PACKAGE = {"package": "clips", "version": "1", "sha256": "0" * 64, "members": ["*.mp4"]}
BASE: dict[str, Any] = {
    "experiment": "base",
    "data": {"sources": ["clips"], "resolution": [64, 64], "packages": ["more"]},
    "resources": {"more": PACKAGE, "other": PACKAGE},
    "stages": {"stage1": {"steps": 3, "frames": [5, 9]}, "stage3": {"epochs": 2.0}},
}


def _config(**changes: Any) -> Config:
    return parse_config(BASE | changes)


def _all_slices(config: Config) -> dict[str, Any]:
    found = {stage: slices.stage_slice(config, stage) for stage in STAGES}
    return found | {
        "lpips": slices.package_slice(config, "lpips"),
        "data": slices.data_slice(config),
        "spatial": slices.spatial_slice(config),
        "latents": [slices.latents_slice(config), slices.latents_fingerprint(config)],
        "prepare": slices.prepare_slice(config),
        "reconstruct": slices.reconstruct_slice(config),
        "baselines": slices.baselines_slice(config),
        "evaluate": slices.evaluate_slice(config),
    }


def _changed(**changes: Any) -> set[str]:
    before, after = _all_slices(_config()), _all_slices(_config(**changes))
    return {name for name in before if before[name] != after[name]}


def test_defaults_are_left_out_and_come_back() -> None:
    assert slices.without_defaults(Config(), Config()) == {}
    config = _config()
    short = slices.without_defaults(config, Config())
    assert parse_config(short) == config
    assert short["stages"] == {"stage1": {"steps": 3, "frames": [5, 9]}, "stage3": {"steps": None, "epochs": 2.0}}
    assert "lpips" not in short["resources"]


def test_stage_slice_parses_to_the_same_stage() -> None:
    for stage in STAGES:
        text = slices.as_text(slices.stage_slice(_config(), stage))
        config = parse_config(json.loads(text))
        assert config.stages.model_dump()[stage] == _config().stages.model_dump()[stage]
        assert config.data.resolution == (64, 64)
        assert config.data.sources == ()


@pytest.mark.parametrize(
    ("changes", "jobs"),
    [
        ({"stages": BASE["stages"] | {"stage3": {"epochs": 3.0}}}, {"stage3"}),
        ({"seed": 1}, {"data", "latents", "stage1", "stage2", "stage3"}),
        ({"data": BASE["data"] | {"min_frames": 5}}, {"data", "latents"}),
        ({"data": BASE["data"] | {"max_failed_share": 0.5}}, {"latents", *STAGES}),
        ({"data": BASE["data"] | {"crop": "random"}}, {"latents", "prepare", *STAGES}),
        ({"data": BASE["data"] | {"scales": [1.0, 2.0]}}, set()),
        ({"data": BASE["data"] | {"crop": "random", "scales": [1.0, 2.0]}}, {"latents", "prepare", *STAGES}),
        ({"data": BASE["data"] | {"flip": True}}, {"latents", *STAGES}),
        ({"data": BASE["data"] | {"prepare": "h264"}}, {"prepare", "stage3"}),
        ({"data": BASE["data"] | {"prepare": "h264"}, "latents": {"cache": "off"}}, {"prepare", *STAGES}),
        ({"data": BASE["data"] | {"prepare_shards": 4}}, set()),
        ({"data": BASE["data"] | {"buckets": [{"resolution": [64, 96]}]}}, set(STAGES)),
        ({"stages": BASE["stages"] | {"stage3": {"epochs": 2.0, "buckets": [{"resolution": [64, 96]}]}}}, {"stage3"}),
        ({"reconstruction": {"max_frames": 9}}, {"reconstruct", "baselines"}),
        ({"reconstruction": {"overlap_frames": 4}}, {"reconstruct"}),
        ({"reconstruction": {"chunk_frames": 9}}, {"reconstruct", "baselines"}),
        ({"reconstruction": {"tile": 512}}, {"reconstruct"}),
        ({"evaluation": {"bootstrap": 10}}, {"evaluate"}),
        ({"evaluation": {"fvd_weights": "net.pt", "fvd_sha256": "0" * 64}}, {"evaluate"}),
        ({"latents": {"shards": 2}}, {"latents"}),
        ({"report": {"title": "Other", "against": "base"}}, set()),
        ({"resources": BASE["resources"] | {"more": PACKAGE | {"version": "2"}}}, {"data", "latents"}),
        ({"resources": {"more": PACKAGE}}, set()),
    ],
)
def test_a_setting_changes_the_slices_of_the_jobs_that_read_it(changes: dict[str, Any], jobs: set[str]) -> None:
    assert _changed(**changes) == jobs


def test_sizes_that_are_not_set_change_no_key() -> None:
    # as they were before there were several sizes
    assert slices.latents_fingerprint(Config()) == "fd86def178923dc9"
    assert slices.prepared_fingerprint(Config()) == "15d8ab3302e1d028"
    assert "buckets" not in slices.as_text(slices.report_slice(_config()))
    assert slices.cached_sizes(Config()) == [(256, 256)] and not slices.has_buckets(Config())


def test_each_size_has_a_cache_and_a_stages_own_sizes_reach_that_stage() -> None:
    buckets = [{"resolution": [64, 64]}, {"resolution": [64, 96], "share": 3.0}]
    low = [{"resolution": [32, 32]}]
    config = _config(
        data=BASE["data"] | {"buckets": buckets},
        stages=BASE["stages"] | {"stage2": {"buckets": low}, "stage3": {"epochs": 2.0, "buckets": []}},
    )
    assert [slices.sizes(config, stage) for stage in STAGES] == [((64, 64), (64, 96)), ((32, 32),), ((64, 64),)]
    assert slices.cached_sizes(config) == [(64, 64), (64, 96), (32, 32)] and slices.has_buckets(config)
    assert slices.cached_sizes(config, "stage3") == slices.prepared_sizes(config) == []
    assert slices.latents_fingerprint(config, (64, 64)) == slices.latents_fingerprint(_config())
    assert slices.latents_slice(config, (64, 96))["data"]["resolution"] == [64, 96]
    read = [slices.stage_slice(config, stage)["data"].get("buckets") for stage in STAGES]
    assert read == [[{"resolution": [64, 64], "share": 1.0}, {"resolution": [64, 96], "share": 3.0}], None, None]
    again = parse_config(json.loads(slices.as_text(slices.stage_slice(config, "stage1"))))
    assert slices.sizes(again, "stage1") == slices.sizes(config, "stage1")
    runs = resolve(
        _config(experiments={"sized": {"data": {"buckets": buckets}}, "end": {"stages": {"stage3": {"buckets": low}}}})
    )
    assert [stage_owner(runs, "sized", stage) for stage in STAGES] == ["sized"] * 3
    assert [stage_owner(runs, "end", stage) for stage in STAGES] == ["base", "base", "end"]
    with pytest.raises(
        UserError, match=r"no stage is trained at 8x8 pixels \(data.buckets\); known: 64x64, 64x96, 32x32"
    ):
        slices.seen_at(config, (8, 8))


def test_runs_share_what_they_have_in_common() -> None:
    config = _config(
        experiments={
            "short": {"stages": {"stage3": {"steps": 5}}},
            "other_seed": {"seed": 7},
            "kinder": {"stages": {"stage2": {"kl_weight": 0.0}}, "evaluation": {"bootstrap": 5}},
        }
    )
    runs = resolve(config)
    assert list(runs) == ["base", "short", "other_seed", "kinder"]
    shortened = runs["short"].stages.of("stage3")
    assert shortened.epochs is None and shortened.steps == 5
    assert [stage_owner(runs, "short", stage) for stage in STAGES] == ["base", "base", "short"]
    assert [stage_owner(runs, "other_seed", stage) for stage in STAGES] == ["other_seed"] * 3
    assert [stage_owner(runs, "kinder", stage) for stage in STAGES] == ["base", "kinder", "kinder"]
    assert data_owner(runs, "short") == "base" and data_owner(runs, "other_seed") == "other_seed"
    assert reconstruction_owner(runs, "kinder", "stage1") == "base"
    assert evaluation_owner(runs, "kinder", "stage1") == "kinder"
    assert evaluation_owner(runs, "short", "stage2") == "base"
    assert evaluation_owner(runs, "short", None) == "base"


def test_a_wrong_key_in_an_experiment_is_named_with_its_place() -> None:
    with pytest.raises(
        UserError, match=r"experiments\.a: unknown key stages\.stage1\.stepps; did you mean stages\.stage1\.steps"
    ):
        resolve(_config(experiments={"a": {"stages": {"stage1": {"stepps": 1}}}}))


def test_a_hub_vae_is_not_trained_and_its_training_settings_do_not_count() -> None:
    assert slices.spatial_slice(_config(spatial={"training": {"steps": 5}})) == {}
    trained = slices.spatial_slice(_config(spatial={"pretrained": None, "training": {"steps": 5}}))
    assert trained["spatial"] == {"pretrained": None, "training": {"steps": 5}}


def test_fetching_an_unknown_package_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="known: lpips, more, other"):
        slices.package_slice(_config(), "nope")


def test_a_job_of_many_runs_is_compared_once_a_run() -> None:
    runs = resolve(_config(experiments={f"run_{seed}": {"seed": seed % 3} for seed in range(1, 30)}))
    seen = []

    def key(config: Config) -> int:
        seen.append(config)
        return config.seed

    owners = [runs.owner(name, "a job", key) for name in runs for _ in range(5)]
    assert len(seen) == len(runs) == 30
    assert set(owners) == {"base", "run_1", "run_2"}


def test_a_slice_is_its_own() -> None:
    config = _config()
    slices.stage_slice(config, "stage1")["stages"]["stage1"]["frames"].append(99)
    assert slices.stage_slice(config, "stage1")["stages"]["stage1"]["frames"] == [5, 9]


@pytest.mark.parametrize(
    ("changes", "scored", "last"),
    [
        ({"stages": None}, ("start",), "start"),
        ({"stages": {"stage1": None, "stage2": None}}, ("stage3",), "stage3"),
        ({"stages": {"stage3": None}, "evaluation": {"stages": ["start", "stage2"]}}, ("start", "stage2"), "stage2"),
        ({}, STAGES, "stage3"),
    ],
)
def test_stages_that_are_null_are_left_out(changes: dict[str, Any], scored: tuple[str, ...], last: str) -> None:
    config = resolve(_config(experiments={"other": changes}))["other"]
    assert (config.scored, config.last) == (scored, last)
    assert parse_config(json.loads(slices.as_text(slices.report_slice(config)))).stages == config.stages
    assert [config.stages.before(stage) for stage in config.stages.trained] == [None, *config.stages.trained][:-1]
    for stage in set(STAGES) - set(config.stages.trained):
        assert not slices.uses_cache(config, stage) and not slices.needs_perceptual(config, stage)
        with pytest.raises(UserError, match=f"stages.{stage} is null"):
            config.stages.of(stage)


def test_only_what_is_trained_can_be_scored() -> None:
    with pytest.raises(UserError, match=r"evaluation.stages: stage1 is not trained"):
        _config(stages={"stage1": None}, evaluation={"stages": ["stage1"]})


def test_pretrained_weights_reach_the_jobs_that_stand_on_them() -> None:
    # A training reads them as its start, a file: its own settings stay as they are.
    assert _changed(model={"pretrained": "a_model"}) == {"spatial", "latents"}
    runs = resolve(_config(experiments={"published": {"model": {"pretrained": "a_model"}, "stages": None}}))
    assert data_owner(runs, "published") == "base"
    for job in ("start", None):
        assert reconstruction_owner(runs, "published", job) == evaluation_owner(runs, "published", job) == "published"
    assert stage_owner(runs, "published", "start") == "published"
    other = resolve(_config(experiments={"tuned": {"model": {"pretrained": "a_model"}}}))
    assert [stage_owner(other, "tuned", stage) for stage in STAGES] == ["tuned"] * 3
