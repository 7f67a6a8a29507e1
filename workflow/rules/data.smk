# Which clips there are, and the frozen spatial VAE's view of them.


rule prepare_manifest:
    input:
        settings="results/{experiment}/settings/prepare_manifest.json",
        sources=lambda wildcards: local([str(file_of(source)) for source in RUNS[wildcards.experiment].data.sources]),
        packages=lambda wildcards: package_listings(wildcards.experiment),
    output:
        # Also writes rejected.csv, which is no output here: it stays where too little is left and the rule fails.
        manifest="results/{experiment}/data/manifest.csv",
        train="results/{experiment}/data/train.csv",
        test="results/{experiment}/data/test.csv",
    log:
        "logs/{experiment}/prepare_manifest.log",
    benchmark:
        "results/benchmarks/{experiment}/prepare_manifest.tsv"
    conda:
        "../../envs/tables.yaml"
    threads: 16
    params:
        folder=folder_of("manifest"),
        packages=lambda wildcards, input: options(
            packages_dir=sorted({os.path.dirname(os.path.dirname(listing)) for listing in input.packages})
        ),
        # Takes the input so that it is no reason to run again: what is checked for a protocol changes no table.
        protocols=lambda wildcards, input: options(
            scored_as=protocols_of(wildcards.experiment), trained_at=sizes_of(wildcards.experiment)
        ),
    shell:
        python(
            "-m video_vae manifest {input.settings}"
            " --output-dir {params.folder} {params.packages} {params.protocols} --workers {threads}"
        )


rule train_spatial:
    input:
        settings="results/{experiment}/settings/train_spatial.json",
        train=lambda wildcards: data_file(wildcards.experiment, "train"),
        test=lambda wildcards: data_file(wildcards.experiment, "test"),
        lpips=lambda wildcards: spatial_lpips(wildcards.experiment),
    output:
        model=directory("results/{experiment}/spatial"),
    log:
        "logs/{experiment}/train_spatial.log",
    benchmark:
        "results/benchmarks/{experiment}/train_spatial.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 64
    resources:
        **MACHINE,
    params:
        options=lambda wildcards, input: options(lpips=str(input.lpips) and os.path.dirname(str(input.lpips))),
    shell:
        python(
            "-m video_vae.launch --gpus {resources.gpu} --ranks {resources.ranks} --threads {threads}"
            " -m video_vae train-spatial {input.settings}"
            " --data-path {input.train} --valid-path {input.test} {params.options} --output {output.model}"
        )


rule prepare_clips:
    input:
        settings="results/settings/prepare_clips_{fingerprint}.json",
        train=lambda wildcards: data_file(PREPARED[wildcards.fingerprint][0], "train"),
    output:
        clips="results/prepared/{fingerprint}/shard_{shard}.tar",
    log:
        "logs/prepared/{fingerprint}/shard_{shard}.log",
    benchmark:
        "results/benchmarks/prepared/{fingerprint}/shard_{shard}.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 16
    params:
        shards=lambda wildcards: RUNS[PREPARED[wildcards.fingerprint][0]].data.prepare_shards,
        folders=lambda wildcards, output: os.path.dirname(os.path.dirname(output.clips)),
    shell:
        python(
            "-m video_vae prepare-clips {input.settings} --data-path {input.train} --workers {threads}"
            " --shard {wildcards.shard} --shards {params.shards} --reuse {params.folders} --output {output.clips}"
        )


rule cache_latents:
    input:
        settings="results/settings/cache_latents_{fingerprint}.json",
        train=lambda wildcards: data_file(LATENTS[wildcards.fingerprint][0], "train"),
        test=lambda wildcards: data_file(LATENTS[wildcards.fingerprint][0], "test"),
        spatial=lambda wildcards: spatial_files(LATENTS[wildcards.fingerprint][0]),
    output:
        latents="results/latents/{fingerprint}/shard_{shard}.safetensors",
    log:
        "logs/latents/{fingerprint}/shard_{shard}.log",
    benchmark:
        "results/benchmarks/latents/{fingerprint}/shard_{shard}.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 16
    resources:
        **MACHINE,
    params:
        shards=lambda wildcards: RUNS[LATENTS[wildcards.fingerprint][0]].latents.shards,
        caches=lambda wildcards, output: os.path.dirname(os.path.dirname(output.latents)),
        options=lambda wildcards, input: options(spatial=spatial_given(LATENTS[wildcards.fingerprint][0], input)),
    shell:
        python(
            "-m video_vae.launch --gpus {resources.gpu} --ranks {resources.ranks} --threads {threads}"
            " -m video_vae encode-latents {input.settings}"
            " --data-path {input.train} --data-path {input.test} {params.options}"
            " --shard {wildcards.shard} --shards {params.shards} --reuse {params.caches} --output {output.latents}"
        )
