# Three named stages, each from the weights of the one before. Resume state lies in results/<experiment>/state, outside
# the declared outputs, which Snakemake deletes before every start. `runtime` (minutes, 0 for none) is the job's wall time:
# the training saves itself before, and its SLURM job goes back into the queue.


# What the first stage begins with, where it is not a fresh net, and what is scored where nothing is trained.
rule start_model:
    input:
        unpack(start_inputs),
    output:
        model=directory("results/{experiment}/start/model"),
        spatial=directory("results/{experiment}/start/spatial"),
        run="results/{experiment}/start/run.json",
    log:
        "logs/{experiment}/start_model.log",
    benchmark:
        "results/benchmarks/{experiment}/start_model.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 16
    params:
        options=lambda wildcards, input: options(spatial=str(input.spatial)),
        folder=folder_of("run"),
    shell:
        python("-m video_vae start-model {input.settings} {params.options} --output {params.folder}")


rule train_stage1:
    input:
        unpack(stage_inputs("stage1")),
    output:
        model=directory("results/{experiment}/stage1/model"),
        run="results/{experiment}/stage1/run.json",
        log="results/{experiment}/stage1/log.jsonl",
    log:
        "logs/{experiment}/train_stage1.log",
    benchmark:
        "results/benchmarks/{experiment}/train_stage1.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 64
    resources:
        **MACHINE,
        nodes=1,
        runtime=0,
    params:
        stage="stage1",
        options=stage_options,
        folder=folder_of("run"),
    shell:
        python(
            "-m video_vae.launch --gpus {resources.gpu} --ranks {resources.ranks} --threads {threads}"
            " --nodes {resources.nodes} --wall-minutes {resources.runtime}"
            " -m video_vae.train {input.settings} --stage {params.stage} --experiment {wildcards.experiment}"
            " --data-path {input.train} --valid-path {input.test} {params.options} --output {params.folder}"
        )


use rule train_stage1 as train_stage2 with:
    input:
        unpack(stage_inputs("stage2")),
    output:
        model=directory("results/{experiment}/stage2/model"),
        run="results/{experiment}/stage2/run.json",
        log="results/{experiment}/stage2/log.jsonl",
    log:
        "logs/{experiment}/train_stage2.log",
    benchmark:
        "results/benchmarks/{experiment}/train_stage2.tsv"
    params:
        stage="stage2",
        options=stage_options,
        folder=folder_of("run"),


use rule train_stage1 as train_stage3 with:
    input:
        unpack(stage_inputs("stage3")),
    output:
        model=directory("results/{experiment}/stage3/model"),
        run="results/{experiment}/stage3/run.json",
        log="results/{experiment}/stage3/log.jsonl",
    log:
        "logs/{experiment}/train_stage3.log",
    benchmark:
        "results/benchmarks/{experiment}/train_stage3.tsv"
    params:
        stage="stage3",
        options=stage_options,
        folder=folder_of("run"),
