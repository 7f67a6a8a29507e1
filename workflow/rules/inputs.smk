# Which files and options the jobs take: a run's own, or those of the run that it shares them with.


def data_file(experiment, name):
    """Name a clip table of the run's data."""
    return f"results/{runs.data_owner(RUNS, experiment)}/data/{name}.csv"


def protocols_of(experiment):
    """List the settings of the protocols that the runs with this run's clips are scored by."""
    sharing = [run for name, run in RUNS.items() if runs.data_owner(RUNS, name) == experiment]
    return [canonical_json(slices.protocol_slice(run)) for run in sharing if run.evaluation.protocol]


def sizes_of(experiment):
    """List the settings of the sizes that the runs with this run's clips train at, where they name any."""
    sharing = [run for name, run in RUNS.items() if runs.data_owner(RUNS, name) == experiment]
    return list(dict.fromkeys(canonical_json(slices.sizes_slice(run)) for run in sharing if slices.has_buckets(run)))


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


def latent_files(experiment, stage):
    """List the shards of the latent caches that a stage is trained on, one per size; none where it sees pixels."""
    run = RUNS[experiment]
    caches = [slices.latents_fingerprint(run, size) for size in slices.cached_sizes(run, stage)]
    return [
        f"results/latents/{cache}/shard_{shard}.safetensors" for cache in caches for shard in range(run.latents.shards)
    ]


def measured_files(experiment, stage):
    """List the shards of the latent cache that a stage's latents are measured on, where there is one of that size."""
    run = RUNS[experiment]
    found = run.data.resolution in slices.cached_sizes(run, stage)
    cache = f"results/latents/{slices.latents_fingerprint(run)}"
    return [f"{cache}/shard_{shard}.safetensors" for shard in range(run.latents.shards)] if found else []


def prepared_files(experiment, stage):
    """List the shards of the prepared clips that a stage is trained on, some per size; none where it needs none."""
    run = RUNS[experiment]
    sets = [slices.prepared_fingerprint(run, size) for size in slices.prepared_sizes(run, stage)]
    return [f"results/prepared/{name}/shard_{shard}.tar" for name in sets for shard in range(run.data.prepare_shards)]


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
            "latents": latent_files(name, stage),
            "prepared": prepared_files(name, stage),
            "init": stage_model(name, before) if before else [],
            "lpips": "resources/lpips/vgg.safetensors" if slices.needs_perceptual(run, stage) else [],
        }

    return inputs


def spatial_lpips(name):
    """Name the weights of LPIPS that a training of the spatial VAE reads; nothing where it reads none."""
    training = RUNS[name].spatial.training
    return f"resources/lpips/{training.perceptual_net}.safetensors" if training.perceptual_weight else []


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


def stage_variants(wildcards, input):
    """Name the folders of frames that are scored of a stage: of the last one, those of quantised latents too."""
    run = RUNS[wildcards.experiment]
    quantised = runs.latent_bits(run, wildcards.stage) and [run.reconstruction.quantised]
    return variants("rec", "spatial", *quantised)(wildcards, input)


def evaluation_options(wildcards):
    """Write the options of a run's evaluation."""
    settings = slices.scored(RUNS[wildcards.experiment]).evaluation
    return options(
        under=protocol_text(RUNS[wildcards.experiment]),
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


def start_inputs(wildcards):
    """List the settings and the files that the weights are made of which nothing is trained of yet."""
    run, name = RUNS[wildcards.experiment], wildcards.experiment
    found = {"settings": f"results/{name}/settings/start_model.json", "pretrained": [], "spatial": []}
    if run.model.pretrained is not None:
        return found | {"pretrained": model_files(run.model.place)}
    return found | {"pretrained" if run.spatial.pretrained else "spatial": spatial_files(name)}


def rival_files(experiment, name):
    """List the files that a rival is made from: those of a net in a local folder, somebody's videos, none of a codec."""
    rival = RUNS[experiment].compare[name]
    if rival.codec is not None:
        return []
    if rival.videos is not None:
        return local(sorted(str(path) for path in Path(rival.videos).glob("[!.]*") if not set("{}") & set(path.name)))
    return model_files(rival.net.place)
