# The report for people, and what `snakemake --report` shows.

SNAKEFILE, TEMPLATES = word(ROOT / "workflow" / "Snakefile"), word(ROOT / "workflow" / "notebooks")


# The rules of this workflow alone, whichever imports it. Drawn once: other settings rarely make other rules.
rule draw_rulegraph:
    input:
        settings=ancient("results/settings/make_report.json"),
    output:
        dot="results/rulegraph.dot",
    log:
        "logs/draw_rulegraph.log",
    localrule: True
    conda:
        "../../envs/snakemake.yaml"
    shell:
        python(
            f"-m snakemake --snakefile {SNAKEFILE}" " --configfile {input.settings} --rulegraph dot -- all",
            "> {output.dot} 2> {log}",
        )


rule make_report:
    input:
        settings="results/settings/make_report.json",
        table="results/metrics.csv",
        manifest=[data_file(name, "manifest") for name in RUNS],
        logs=[
            f"{os.path.dirname(stage_model(name, stage))}/log.jsonl"
            for name, run in RUNS.items()
            for stage in run.needed
        ],
        rulegraph="results/rulegraph.dot",
    output:
        page=report(
            "reports/report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"page": "metrics, curves and clips"},
        ),
        figures=report(
            directory("reports/figures"),
            patterns=["{name}.svg"],
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{name}"},
        ),
        tables=report(
            directory("reports/tables"),
            patterns=["{name}.md"],
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{name}"},
        ),
    log:
        "logs/make_report.log",
    benchmark:
        "results/benchmarks/make_report.tsv"
    localrule: True
    conda:
        "../../envs/video-vae.yaml"
    params:
        config=lambda wildcards: options(configfile=CONFIG_FILES[:1]),
        results=lambda wildcards, input: os.path.dirname(input.table),
    shell:
        python(
            "-m video_vae report {input.settings} --results {params.results} --rulegraph {input.rulegraph}"
            " {params.config} --output {output.page} --figures {output.figures} --tables {output.tables}"
        )


# The notebook, executed: what its cells show is kept in the executed copy, and written as a page of its own.
rule explore_model:
    input:
        settings="results/settings/explore_model.json",
        table="results/metrics.csv",
        model=stage_model(CONFIG.experiment, CONFIG.last),
        test=data_file(CONFIG.experiment, "test"),
    output:
        morph="results/explore/morph.mp4",
        notebook="results/explore/explore.ipynb",
    log:
        "logs/explore_model.log",
    benchmark:
        "results/benchmarks/explore_model.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 16
    params:
        results=lambda wildcards, input: os.path.dirname(input.table),
    shell:
        python(
            f"-m video_vae explore {{input.settings}} --notebook {word(NOTEBOOK)}"
            " --results {params.results} --threads {threads} --morph {output.morph} --output {output.notebook}"
        )


rule render_notebook:
    input:
        notebook="results/explore/explore.ipynb",
    output:
        page=report(
            "reports/explore.html",
            caption="../report/explore.rst",
            category="Notebook",
            labels={"page": "clips through the model, latents, interpolation"},
        ),
    log:
        "logs/render_notebook.log",
    localrule: True
    conda:
        "../../envs/video-vae.yaml"
    params:
        page=lambda wildcards, output: os.path.splitext(os.path.basename(output.page))[0],
        folder=folder_of("page"),
    shell:
        python(
            "-m nbconvert --log-level ERROR --to html"
            f" --TemplateExporter.extra_template_basedirs={TEMPLATES} --template offline"
            " --output-dir {params.folder} --output {params.page} {input.notebook}"
        )
