# The report for people, and what `snakemake --report` shows.


rule draw_rulegraph:
    output:
        dot="results/rulegraph.dot",
    log:
        "logs/draw_rulegraph.log",
    conda:
        "../../envs/snakemake.yaml"
    params:
        snakefile=os.path.relpath(workflow.main_snakefile),
        config=lambda wildcards: options(configfile=CONFIG_FILES),
    shell:
        "python -m snakemake --snakefile {params.snakefile:q} {params.config} --rulegraph dot -- all"
        " > {output.dot} 2> {log}"


rule make_report:
    input:
        table="results/metrics.csv",
        manifest=[data_file(name, "manifest") for name in RUNS],
        logs=[
            f"{os.path.dirname(stage_model(name, stage))}/log.jsonl" for name in RUNS for stage in needed_stages(name)
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
    conda:
        "../../envs/video-vae.yaml"
    params:
        settings=slices.as_argument(slices.report_slice(CONFIG)),
        config=lambda wildcards: options(configfile=CONFIG_FILES[0]),
        results=lambda wildcards, input: os.path.dirname(input.table),
    shell:
        "logged {log} python -m video_vae report {params.settings:q} --results {params.results} --rulegraph {input.rulegraph}"
        " {params.config} --output {output.page} --figures {output.figures} --tables {output.tables}"


# The notebook, executed: what its cells show is kept in the executed copy, and written as a page of its own.
rule explore_model:
    input:
        table="results/metrics.csv",
        model=stage_model(CONFIG.experiment, STAGES[-1]),
        test=data_file(CONFIG.experiment, "test"),
    output:
        morph="results/explore/morph.mp4",
    log:
        notebook="results/explore/explore.ipynb",
    benchmark:
        "results/benchmarks/explore_model.tsv"
    conda:
        "../../envs/video-vae.yaml"
    threads: 16
    params:
        settings=slices.as_argument(slices.explore_slice(CONFIG)),
    notebook:
        "../notebooks/explore.ipynb"


rule render_notebook:
    input:
        morph="results/explore/morph.mp4",
    output:
        page=report(
            "reports/explore.html",
            caption="../report/explore.rst",
            category="Notebook",
            labels={"page": "clips through the model, latents, interpolation"},
        ),
    log:
        "logs/render_notebook.log",
    conda:
        "../../envs/video-vae.yaml"
    params:
        notebook=rules.explore_model.log.notebook,
        templates=os.path.relpath(Path(workflow.basedir, "notebooks")),
        page=lambda wildcards, output: os.path.splitext(os.path.basename(output.page))[0],
        folder=folder_of("page"),
    shell:
        "logged {log} jupyter-nbconvert --log-level ERROR --to html"
        " --TemplateExporter.extra_template_basedirs={params.templates} --template offline"
        " --output-dir {params.folder} --output {params.page} {params.notebook}"
