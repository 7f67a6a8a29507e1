# What is fetched: packages from registries, always by exact version and sha256, and weights by hub id or address.


rule fetch_package:
    input:
        settings="results/settings/fetch_{package}.json",
    output:
        listing="resources/{package}/files.json",
    log:
        "logs/resources/fetch_{package}.log",
    benchmark:
        "results/benchmarks/resources/fetch_{package}.tsv"
    localrule: True
    conda:
        "../../envs/fetch.yaml"
    params:
        folder=folder_of("listing"),
    shell:
        python("-m video_vae fetch {input.settings} {wildcards.package} --output {params.folder}")


rule convert_lpips:
    input:
        listing="resources/lpips/files.json",
    output:
        alex="resources/lpips/alex.safetensors",
        vgg="resources/lpips/vgg.safetensors",
    log:
        "logs/resources/convert_lpips.log",
    localrule: True
    conda:
        "../../envs/video-vae.yaml"
    params:
        folder=folder_of("alex"),
    shell:
        python("-m video_vae convert-lpips {params.folder}")


# Spatial VAE and flow net, where they are not files here: into the caches where jobs look for them. Only where asked for:
# jobs that reach the network fetch for themselves.
rule fetch_weights:
    input:
        settings="results/{experiment}/settings/fetch_weights.json",
    output:
        listing="resources/weights/{experiment}.json",
    log:
        "logs/resources/fetch_weights_{experiment}.log",
    benchmark:
        "results/benchmarks/resources/fetch_weights_{experiment}.tsv"
    localrule: True
    conda:
        "../../envs/video-vae.yaml"
    shell:
        python("-m video_vae fetch-weights {input.settings} --output {output.listing}")


# All that needs the network, to be made where there is one: `make offline`.
rule prepare_offline:
    input:
        packages=[listing for name in RUNS for listing in package_listings(name)],
        lpips=["resources/lpips/alex.safetensors", "resources/lpips/vgg.safetensors"],
        weights=[f"resources/weights/{name}.json" for name, run in RUNS.items() if slices.loads_by_name(run)],
    localrule: True
