# Paths, inputs and settings of the jobs. Imports no torch, so that a dry run needs none.

from video_vae.config import SCORED, STAGES, START, load_merged, parse_config, runs, slices
from video_vae.config.files import read_settings, retyped
from video_vae.errors import UserError
from video_vae.provenance import config_variables
from video_vae.tar_members import file_of
from video_vae.weights.files import find_model

# Every job's record names what its settings were cut from: config files, and what --config changes in them.
CONFIG_FILES = [os.path.relpath(path) for path in workflow.overwrite_configfiles or workflow.configfiles]
GIVEN = retyped(dict(workflow.config_settings.config))

# What a job that computes asks for where no profile says more: one rank, any GPU. More than one rank per node and the
# node's GPUs are the profiles' business (resources `ranks` and `gpu`).
MACHINE = {"gpu": 0, "ranks": 1}

# Settings of a module are those of its module statement, and its results may lie in a folder of their own.
MODULE = not workflow.modifier.is_main_snakefile()
RESULTS = Path(workflow.modifier.path_modifier.replace_prefix("results/"))
if MODULE and not config:
    raise WorkflowError("video-vae: the module statement gives no settings; add to it: config: config")
try:
    for path in CONFIG_FILES:
        read_settings(path)  # refuses keys given twice, of which Snakemake takes the last
    CONFIG = parse_config(retyped(config))
    RUNS = runs.resolve(CONFIG)
except UserError as error:
    hint = "; a module takes this workflow's settings alone, such as config: config['vae']" if MODULE else ""
    raise WorkflowError(f"{error}{hint}") from None


def merged():
    """Tell whether the files and the command line say all that a module is given, and nothing else."""
    try:
        return load_merged(list(map(Path, CONFIG_FILES)), GIVEN) == CONFIG
    except UserError:
        return False


if not MODULE or merged():
    KEPT = None if workflow.output_settings.dryrun else Path(".snakemake", "video-vae")
    os.environ.update(config_variables(CONFIG_FILES, GIVEN, KEPT))

PREPARING = {name: run for name, run in reversed(RUNS.items()) if run.data.prepare != "none"}
PREPARED = {slices.prepared_fingerprint(run): name for name, run in PREPARING.items()}
LATENTS = {slices.latents_fingerprint(run): name for name, run in reversed(RUNS.items())}


wildcard_constraints:
    experiment="|".join(RUNS),
    stage="|".join(SCORED),
    rival="|".join({name for run in RUNS.values() for name in run.compare}) or "-",
    package="|".join(CONFIG.resources),
    fingerprint="[0-9a-f]{16}",
    shard=r"\d+",


def folder_of(name):
    """Make a params function: the folder of a named output."""
    return lambda wildcards, output: os.path.dirname(output[name])


def options(**values):
    """Write command line options, quoted for the shell, leaving out those whose value is empty."""
    words = []
    for name, value in values.items():
        given = [value] if isinstance(value, (str, int)) else value or []
        if value:
            words += [f"--{name.replace('_', '-')}", *(shlex.quote(str(part)) for part in given)]
    return " ".join(words)


def data_file(experiment, name):
    """Name a clip table of the run's data."""
    return f"results/{runs.data_owner(RUNS, experiment)}/data/{name}.csv"


def package_listings(experiment):
    """List what the fetched packages of a run's data hold."""
    return [f"resources/{name}/files.json" for name in RUNS[experiment].data.packages]


def spatial_files(experiment):
    """List the files of a run's spatial VAE: a pretrained model's, what its training makes, or what lies in a folder."""
    spatial = RUNS[experiment].spatial
    if RUNS[experiment].model.pretrained is not None:
        return f"results/{runs.stage_owner(RUNS, experiment, START)}/{START}/spatial"
    if spatial.pretrained is None:
        return f"results/{runs.spatial_owner(RUNS, experiment)}/spatial"
    return model_files(spatial.place)


def model_files(place):
    """List the files of a model on this machine; none where its place is None."""
    return local([str(path) for path in find_model(place).files]) if place else []


def spatial_given(experiment, input):
    """Name the spatial VAE of a job, a folder or a file; empty where it is a hub id."""
    pretrained = RUNS[experiment].model.pretrained is not None
    return str((not pretrained and RUNS[experiment].spatial.place) or input.spatial or "")


def latent_files(experiment):
    """List the shards of a run's latent cache."""
    run = RUNS[experiment]
    folder = f"results/latents/{slices.latents_fingerprint(run)}"
    return [f"{folder}/shard_{shard}.safetensors" for shard in range(run.latents.shards)]


def prepared_files(experiment):
    """List the shards of a run's prepared clips."""
    run = RUNS[experiment]
    folder = f"results/prepared/{slices.prepared_fingerprint(run)}"
    return [f"{folder}/shard_{shard}.tar" for shard in range(run.data.prepare_shards)]


def stage_model(experiment, stage):
    """Name the folder of a stage's weights, which may be another run's."""
    return f"results/{runs.stage_owner(RUNS, experiment, stage)}/{stage}/model"


def stage_inputs(stage):
    """Make an input function for the training of a stage."""

    def inputs(wildcards):
        run, name = RUNS[wildcards.experiment], wildcards.experiment
        before = run.stages.before(stage) or (START if run.model.pretrained else None)
        return {
            "settings": f"results/{name}/settings/train_{stage}.json",
            "train": data_file(name, "train"),
            "test": data_file(name, "test"),
            "spatial": spatial_files(name),
            "latents": latent_files(name) if slices.uses_cache(run, stage) else [],
            "prepared": prepared_files(name) if slices.uses_prepared(run, stage) else [],
            "init": stage_model(name, before) if before else [],
            "lpips": "resources/lpips/vgg.safetensors" if slices.needs_perceptual(run, stage) else [],
        }

    return inputs


def stage_options(wildcards, input):
    """Write the options of a stage's training that name its inputs."""
    return options(
        latents=list(input.latents),
        prepared=list(input.prepared),
        spatial=spatial_given(wildcards.experiment, input),
        init_from=input.init,
        lpips=str(input.lpips) and os.path.dirname(str(input.lpips)),
    )


def reconstructed(experiment, part):
    """List the indices of the clips reconstructed from a stage, a rival's, or the baselines' where the part is None."""
    owner = runs.reconstruction_owner(RUNS, experiment, part)
    folder = f"results/{owner}/{runs.part_folder(part)}/reconstruction"
    return [f"{folder}/shard_{shard}.csv" for shard in range(RUNS[owner].reconstruction.shards)]


def variants(*names):
    """Make a params function: the folders of frames that lie beside the reconstruction's first index."""
    return lambda wildcards, input: [f"{os.path.dirname(input.index[0])}_{name}" for name in names]


def evaluation_options(wildcards):
    """Write the options of a run's evaluation."""
    settings = RUNS[wildcards.experiment].evaluation
    return options(
        metric=settings.metrics,
        flow=settings.flow,
        flow_weights=settings.flow_weights,
        flow_sha256=settings.flow_sha256,
        fvd_weights=settings.fvd_weights,
        fvd_sha256=settings.fvd_sha256,
        fvd_frames=settings.fvd_weights and settings.fvd_frames,
        bootstrap=settings.bootstrap,
    )


def scores(experiment, part):
    """Name the summary of the scores of a stage, a rival, or the baselines where the part is None."""
    return f"results/{runs.evaluation_owner(RUNS, experiment, part)}/{runs.part_folder(part)}/metrics/summary.json"


def all_scores():
    """List every row source of metrics.csv: (experiment, stage, summary)."""
    return [
        (name, runs.part_label(part), scores(name, part))
        for name, run in RUNS.items()
        for part in runs.scored_parts(run)
    ]
