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
        "python -m snakemake --snakefile {params.snakefile:q} {params.config} --rulegraph dot -- results/metrics.csv"
        " > {output.dot} 2> {log}"


rule make_report:
    input:
        table="results/metrics.csv",
        manifest=[data_file(name, "manifest") for name in RUNS],
        logs=[f"{os.path.dirname(stage_model(name, stage))}/log.jsonl" for name in RUNS for stage in STAGES],
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
    log:
        "logs/make_report.log",
    benchmark:
        "results/benchmarks/make_report.tsv"
    conda:
        "../../envs/video-vae.yaml"
    params:
        settings=slices.as_argument(slices.report_slice(CONFIG)),
        config=lambda wildcards: options(configfile=CONFIG_FILES[0]),
    shell:
        "logged {log} python -m video_vae report {params.settings:q} --results results --rulegraph {input.rulegraph}"
        " {params.config} --output {output.page} --figures {output.figures}"
