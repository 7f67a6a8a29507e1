# What is fetched: packages from registries, always by exact version and sha256, and weights by hub id or address.


rule fetch_package:
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
        settings=lambda wildcards: slices.as_argument(slices.package_slice(CONFIG, wildcards.package)),
        folder=folder_of("listing"),
    shell:
        python("-m video_vae fetch {params.settings:q} {wildcards.package} --output {params.folder}")


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
    output:
        listing="resources/weights/{experiment}.json",
    log:
        "logs/resources/fetch_weights_{experiment}.log",
    benchmark:
        "results/benchmarks/resources/fetch_weights_{experiment}.tsv"
    localrule: True
    conda:
        "../../envs/video-vae.yaml"
    params:
        settings=argument(slices.weights_slice),
    shell:
        python("-m video_vae fetch-weights {params.settings:q} --output {output.listing}")


# All that needs the network, to be made where there is one: `make offline`.
rule prepare_offline:
    input:
        packages=[listing for name in RUNS for listing in package_listings(name)],
        lpips=["resources/lpips/alex.safetensors", "resources/lpips/vgg.safetensors"],
        weights=[f"resources/weights/{name}.json" for name, run in RUNS.items() if slices.loads_by_name(run)],
    localrule: True
