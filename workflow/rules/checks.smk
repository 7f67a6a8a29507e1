# Snakemake takes results that exist for good, whatever became of what they were made from: that is looked at here.

from snakemake.logging import logger

from video_vae.doctor.inputs import check_inputs
from video_vae.report.lost import lost_outputs
from video_vae.status.planned import write_plan

# Jobs are parts of a run that was looked at when it started; the words name what reads no clips and no weights.
started = workflow.is_main_process and "VIDEO_VAE_OWNER" not in os.environ

if started and not {"prepare_offline", "--unlock", "--lint"}.intersection(sys.argv):
    try:
        check_inputs(RUNS, RESULTS)
    except UserError as error:
        raise WorkflowError(str(error)) from None
    if not NOTEBOOK.is_file():
        raise WorkflowError(f"{NOTEBOOK} does not exist; get it from the repository again")
    for lost in lost_outputs(RUNS, RESULTS):
        logger.warning(str(lost))
    if not workflow.output_settings.dryrun:
        write_plan(RESULTS, CONFIG, CONFIG_FILES if not MODULE or merged() else [], GIVEN)
