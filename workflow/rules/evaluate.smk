# Scores of the reconstructions, a frame, a clip and a run.


rule evaluate_clips:
    input:
        index=lambda wildcards: reconstructed(wildcards.experiment, wildcards.stage),
        lpips="resources/lpips/alex.safetensors",
    output:
        frames="results/{experiment}/{stage}/metrics/frames.parquet",
        clips="results/{experiment}/{stage}/metrics/clips.csv",
        summary="results/{experiment}/{stage}/metrics/summary.json",
    log:
        "logs/{experiment}/{stage}/evaluate.log",
    benchmark:
        "results/benchmarks/{experiment}/{stage}/evaluate.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 64
    resources:
        **MACHINE,
    params:
        real=variants("ori"),
        generated=stage_variants,
        options=evaluation_options,
        lpips=lambda wildcards, input: os.path.dirname(input.lpips),
        folder=folder_of("summary"),
    shell:
        python(
            "-m video_vae.launch --gpus {resources.gpu} --ranks {resources.ranks} --threads {threads}"
            " -m video_vae.evaluate --real_video_dir {params.real}"
            " --generated_video_dir {params.generated}"
            " {params.options} --lpips {params.lpips} --check --strict --clips {input.index} --output_dir {params.folder}"
        )


use rule evaluate_clips as evaluate_baselines with:
    input:
        index=lambda wildcards: reconstructed(wildcards.experiment, None),
        lpips="resources/lpips/alex.safetensors",
    output:
        frames="results/{experiment}/baselines/metrics/frames.parquet",
        clips="results/{experiment}/baselines/metrics/clips.csv",
        summary="results/{experiment}/baselines/metrics/summary.json",
    log:
        "logs/{experiment}/baselines/evaluate.log",
    benchmark:
        "results/benchmarks/{experiment}/baselines/evaluate.tsv"
    params:
        real=variants("ori"),
        generated=variants("mean", "repeat"),
        options=evaluation_options,
        lpips=lambda wildcards, input: os.path.dirname(input.lpips),
        folder=folder_of("summary"),


rule collect_metrics:
    input:
        summaries=[summary for _, _, summary in all_scores()],
    output:
        table=report(
            "results/metrics.csv",
            caption="../report/metrics.rst",
            category="Metrics",
            labels={"table": "all runs, stages and variants"},
        ),
    log:
        "logs/collect_metrics.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        rows=lambda wildcards, input: [
            f"{name}:{stage}:{summary}" for (name, stage, _), summary in zip(all_scores(), input.summaries)
        ],
    shell:
        python("-m video_vae collect-metrics {params.rows} --output {output.table}")
