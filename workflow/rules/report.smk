# The report for people, and what `snakemake --report` shows.


rule make_report:
    input:
        table="results/metrics.csv",
        manifest=[data_file(name, "manifest") for name in RUNS],
        logs=[f"{os.path.dirname(stage_model(name, stage))}/log.jsonl" for name in RUNS for stage in STAGES],
    output:
        page=report(
            "reports/report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"page": "metrics, curves and clips"},
        ),
    log:
        "logs/make_report.log",
    benchmark:
        "results/benchmarks/make_report.tsv"
    conda:
        "../../envs/video-vae.yaml"
    params:
        settings=slices.as_argument(slices.report_slice(CONFIG)),
    shell:
        "logged {log} python -m video_vae report {params.settings:q} --results results --output {output.page}"
