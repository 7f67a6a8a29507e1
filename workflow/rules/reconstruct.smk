# Held-out clips through each stage's weights, and through the baselines that a trained net must beat. The clips lie
# beside the declared index, so that an interrupted job goes on with the clips that it lacks.


rule reconstruct_clips:
    input:
        settings="results/{experiment}/settings/reconstruct_clips.json",
        model=lambda wildcards: stage_model(wildcards.experiment, wildcards.stage),
        test=lambda wildcards: data_file(wildcards.experiment, "test"),
    output:
        index="results/{experiment}/{stage}/reconstruction/shard_{shard}.csv",
    log:
        "logs/{experiment}/{stage}/reconstruct_{shard}.log",
    benchmark:
        "results/benchmarks/{experiment}/{stage}/reconstruct_{shard}.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 64
    resources:
        **MACHINE,
    params:
        shards=lambda wildcards: RUNS[wildcards.experiment].reconstruction.shards,
        name=folder_of("index"),
        options=lambda wildcards: options(latent_bits=runs.latent_bits(RUNS[wildcards.experiment], wildcards.stage)),
    shell:
        python(
            "-m video_vae.launch --gpus {resources.gpu} --ranks {resources.ranks} --threads {threads}"
            " -m video_vae.reconstruct {input.settings} {params.options}"
            " --ckpt-path {input.model} --data-path {input.test} --save-dir {params.name}"
            " --require-files --shard {wildcards.shard} --shards {params.shards} --index {output.index}"
        )


rule reconstruct_baselines:
    input:
        settings="results/{experiment}/settings/reconstruct_baselines.json",
        test=lambda wildcards: data_file(wildcards.experiment, "test"),
        spatial=lambda wildcards: spatial_files(wildcards.experiment),
    output:
        index="results/{experiment}/baselines/reconstruction/shard_{shard}.csv",
    log:
        "logs/{experiment}/baselines/reconstruct_{shard}.log",
    benchmark:
        "results/benchmarks/{experiment}/baselines/reconstruct_{shard}.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 64
    resources:
        **MACHINE,
    params:
        shards=lambda wildcards: RUNS[wildcards.experiment].reconstruction.shards,
        name=folder_of("index"),
        options=lambda wildcards, input: options(spatial=spatial_given(wildcards.experiment, input)),
    shell:
        python(
            "-m video_vae.launch --gpus {resources.gpu} --ranks {resources.ranks} --threads {threads}"
            " -m video_vae.reconstruct {input.settings}"
            " --baselines {params.options} --data-path {input.test} --save-dir {params.name}"
            " --require-files --shard {wildcards.shard} --shards {params.shards} --index {output.index}"
        )


# Mean and deviation of each latent channel over the training clips, what `model.shift` and `model.scale` should be for a
# net that samples in this space. No part of the default targets: results/<experiment>/<stage>/latent_statistics.json.
rule measure_latents:
    input:
        settings="results/{experiment}/settings/measure_latents.json",
        model=lambda wildcards: stage_model(wildcards.experiment, wildcards.stage),
        train=lambda wildcards: data_file(wildcards.experiment, "train"),
        latents=lambda wildcards: measured_files(wildcards.experiment, wildcards.stage),
    output:
        statistics="results/{experiment}/{stage}/latent_statistics.json",
    log:
        "logs/{experiment}/{stage}/measure_latents.log",
    benchmark:
        "results/benchmarks/{experiment}/{stage}/measure_latents.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 64
    resources:
        **MACHINE,
    params:
        options=lambda wildcards, input: options(latents=list(input.latents)),
    shell:
        python(
            "-m video_vae.launch --gpus {resources.gpu} --ranks {resources.ranks} --threads {threads}"
            " -m video_vae.latents.latent_statistics {input.settings}"
            " --ckpt-path {input.model} --data-path {input.train} {params.options} --output {output.statistics}"
        )


# All clips of a run through its last stage, as latents for a diffusion model to train on, at the size and rate of the
# config. No part of the default targets: results/<experiment>/latents_video/index.csv. The files of latents lie beside the
# lists, so that an interrupted job goes on with those that it lacks.
rule encode_videos:
    input:
        settings="results/{experiment}/settings/encode_videos.json",
        model=lambda wildcards: stage_model(wildcards.experiment, RUNS[wildcards.experiment].last),
        manifest=lambda wildcards: data_file(wildcards.experiment, "manifest"),
    output:
        index="results/{experiment}/latents_video/shard_{shard}.csv",
    log:
        "logs/{experiment}/encode_videos_{shard}.log",
    benchmark:
        "results/benchmarks/{experiment}/encode_videos_{shard}.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 64
    resources:
        **MACHINE,
    params:
        shards=lambda wildcards: RUNS[wildcards.experiment].latents.shards,
        folder=folder_of("index"),
    shell:
        python(
            "-m video_vae.launch --gpus {resources.gpu} --ranks 1 --threads {threads}"
            " -m video_vae encode {input.manifest} --model {input.model} --config {input.settings}"
            " --output {params.folder} --images --shard {wildcards.shard} --shards {params.shards} --index {output.index}"
        )


rule join_latents:
    input:
        lists=lambda wildcards: [
            f"results/{wildcards.experiment}/latents_video/shard_{shard}.csv"
            for shard in range(RUNS[wildcards.experiment].latents.shards)
        ],
    output:
        index="results/{experiment}/latents_video/index.csv",
    log:
        "logs/{experiment}/join_latents.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    shell:
        "awk 'FNR > 1 || NR == 1' {input.lists:q} > {output.index} 2> {log}"
