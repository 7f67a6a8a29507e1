# What each job reads of the config, as a file: only the jobs that read a changed setting run again. A command that takes
# such a file can be copied out of a log and works by hand.

import re
from functools import partial

from video_vae.files import atomic_path

# Of one run: results/<experiment>/settings/<job>.json
RUN_SLICES = {
    "fetch_weights": slices.weights_slice,
    "prepare_manifest": slices.data_slice,
    "start_model": slices.start_slice,
    "train_spatial": slices.spatial_slice,
    **{f"train_{stage}": partial(slices.stage_slice, stage=stage) for stage in STAGES},
    "reconstruct_clips": slices.reconstruct_slice,
    "reconstruct_baselines": slices.baselines_slice,
    "measure_latents": slices.statistics_slice,
    "encode_videos": slices.video_latents_slice,
}
RIVAL_SLICES = {
    f"{run}/settings/compare_{name}": partial(slices.rival_slice, config, name)
    for run, config in RUNS.items()
    for name in config.compare
}
# Of all of them: results/settings/<job>.json
SLICES = {
    "make_report": partial(slices.report_slice, CONFIG),
    "explore_model": partial(slices.explore_slice, CONFIG),
    **{f"fetch_{package}": partial(slices.package_slice, CONFIG, package) for package in CONFIG.resources},
    **{
        f"cache_latents_{name}": partial(slices.latents_slice, RUNS[run], size) for name, (run, size) in LATENTS.items()
    },
    **{
        f"prepare_clips_{name}": partial(slices.prepare_slice, RUNS[run], size)
        for name, (run, size) in PREPARED.items()
    },
}
WRITTEN = {f"settings/{job}": slicer for job, slicer in SLICES.items()} | {
    f"{name}/settings/{job}": partial(slicer, run) for name, run in RUNS.items() for job, slicer in RUN_SLICES.items()
}
WRITTEN |= RIVAL_SLICES


# Snakemake fills in a template in its own process: a command line holds 128 KiB, which long lists exceed. The template has
# the same path in all working folders, unlike a file of the checkout, so that another checkout reruns nothing.
TEMPLATE = Path(".snakemake", "video-vae", "settings.jinja")
if not TEMPLATE.is_file():
    with atomic_path(TEMPLATE) as aside:
        aside.write_text("{{ params.text }}", encoding="utf-8")


rule write_settings:
    input:
        template=local(ancient(TEMPLATE)),
    output:
        settings="results/{written}.json",
    log:
        "logs/{written}.log",
    wildcard_constraints:
        written="|".join(map(re.escape, WRITTEN)),
    localrule: True
    params:
        text=lambda wildcards: slices.as_text(WRITTEN[wildcards.written]()),
    template_engine:
        "jinja2"
