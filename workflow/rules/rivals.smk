# What the video VAE is compared with (`compare` of the config): the same held-out windows through another spatial VAE, or
# as somebody else made them. A rival depends on no training, and adding one computes that one alone.


rule reconstruct_rival:
    input:
        settings="results/{experiment}/settings/compare_{rival}.json",
        test=lambda wildcards: data_file(wildcards.experiment, "test"),
        rival=lambda wildcards: rival_files(wildcards.experiment, wildcards.rival),
    output:
        index="results/{experiment}/compare/{rival}/reconstruction/shard_{shard}.csv",
    log:
        "logs/{experiment}/compare/{rival}/reconstruct_{shard}.log",
    benchmark:
        "results/benchmarks/{experiment}/compare/{rival}/reconstruct_{shard}.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 64
    resources:
        **MACHINE,
    params:
        shards=lambda wildcards: RUNS[wildcards.experiment].reconstruction.shards,
        name=folder_of("index"),
    shell:
        python(
            "-m video_vae.launch --gpus {resources.gpu} --ranks {resources.ranks} --threads {threads}"
            " -m video_vae.reconstruct {input.settings}"
            " --rival {wildcards.rival} --data-path {input.test} --save-dir {params.name}"
            " --require-files --shard {wildcards.shard} --shards {params.shards} --index {output.index}"
        )


use rule evaluate_clips as evaluate_rival with:
    input:
        index=lambda wildcards: reconstructed(wildcards.experiment, runs.RivalName(wildcards.rival)),
        lpips="resources/lpips/alex.safetensors",
    output:
        frames="results/{experiment}/compare/{rival}/metrics/frames.parquet",
        clips="results/{experiment}/compare/{rival}/metrics/clips.csv",
        summary="results/{experiment}/compare/{rival}/metrics/summary.json",
    log:
        "logs/{experiment}/compare/{rival}/evaluate.log",
    benchmark:
        "results/benchmarks/{experiment}/compare/{rival}/evaluate.tsv"
    params:
        real=variants("ori"),
        generated=lambda wildcards, input: variants(wildcards.rival)(wildcards, input),
        options=lambda wildcards: f"--variant {wildcards.rival} {evaluation_options(wildcards)}",
        lpips=lambda wildcards, input: os.path.dirname(input.lpips),
        folder=folder_of("summary"),
