# Paths, inputs and settings of the jobs. Imports no torch, so that a dry run needs none.

from video_vae.config import SCORED, STAGES, START, load_merged, parse_config, runs, slices
from video_vae.config.files import read_settings, retyped
from video_vae.config.protocols import protocol_text
from video_vae.errors import UserError
from video_vae.provenance import canonical_json, config_variables
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

# Of what training reads, a set per size: which run it is made for, the first one that has it, and the size.
LATENTS = {
    slices.latents_fingerprint(run, size): (name, size)
    for name, run in reversed(RUNS.items())
    for size in slices.cached_sizes(run)
}
PREPARED = {
    slices.prepared_fingerprint(run, size): (name, size)
    for name, run in reversed(RUNS.items())
    for size in slices.prepared_sizes(run)
}


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
