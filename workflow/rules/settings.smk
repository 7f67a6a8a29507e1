# What a job reads of the config, as a file: only the jobs that read a changed setting run again.

SLICES = {
    "make_report": lambda: slices.report_slice(CONFIG),
}


rule write_settings:
    output:
        settings="{folder}/settings/{job}.json",
    log:
        "logs/{folder}/write_settings_{job}.log",
    wildcard_constraints:
        folder="results",
        job="|".join(SLICES),
    localrule: True
    params:
        text=lambda wildcards: slices.as_argument(SLICES[wildcards.job]()),
    shell:
        "printf '%s\\n' {params.text:q} > {output.settings} 2> {log}"
