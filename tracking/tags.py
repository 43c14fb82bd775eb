"""Every name that this project uses in MLflow, once: experiment, model, aliases, tags, metrics and artifacts."""

EXPERIMENT = "dcgan"
MODEL_NAME = "dcgan-generator"

# aliases of the registered model
CHAMPION = "champion"  # the version in service
PREVIOUS = "previous"  # the champion before
CHALLENGER = "challenger"  # passed the gate and waits for a promotion by hand

# tags of a run
RECIPE = "dcgan.recipe"
SEED = "dcgan.seed"
DATASET_DIGEST = "dcgan.dataset_digest"
DATASET_SOURCE = "dcgan.dataset_source"
CODE_DIGEST = "dcgan.code_digest"
HOST = "dcgan.host"
DEVICE = "dcgan.device"
EXACT = "dcgan.exact"  # whether the same configuration, data, code and machine give the same bits
RECORDED_EPOCHS = "dcgan.recorded_epochs"  # set last, when an epoch's metrics and samples are recorded
FLOW_RUN_ID = "prefect.flow_run_id"
FLOW_RUN_URL = "prefect.flow_run_url"
SWEEP = "dcgan.sweep"  # of a sweep's own run
PARENT_RUN = "mlflow.parentRunId"  # of a trial's run; MLflow's own name, by which it nests runs
TRIAL = "dcgan.trial"

# tags by which processes find each other; the prefix keeps them out of MLflow's pages
FINGERPRINT = "mlflow.dcgan.fingerprint"
LEASE = "mlflow.dcgan.lease"
LEASE_RENEWED = "mlflow.dcgan.lease_renewed"
CREATION = "mlflow.dcgan.creation"  # of a version too: tells what one request created from everything else

# tags of a version, besides recipe, seed, and digest and source of the dataset
GENERATOR_SHA256 = "dcgan.generator_sha256"
MODEL_SHA256 = "dcgan.model_sha256"
VERDICT = "dcgan.verdict"
VERDICT_REASON = "dcgan.verdict_reason"
VERDICT_CHAMPION = "dcgan.verdict_champion"
PASSED, FAILED, NO_CHAMPION = "passed", "failed", "none"  # their values
PROMOTED_BY = "dcgan.promoted_by"
FORCED = "dcgan.forced"

# the end of an address of MLflow's pages: else a browser may show traces of language models
TRAINING_VIEW = "?workflowType=machine_learning"

# images and artifacts of a run
SAMPLES = "samples"
IMAGES = "images"  # MLflow's own folder of images
CHECKPOINTS = "checkpoints"
REPORT = "report"
REPORT_JSON = f"{REPORT}/quality.json"
MODEL_CARD = f"{REPORT}/model-card.md"
PLAYGROUND = f"{REPORT}/playground.html"
REPORT_PAGE = f"{REPORT}/quality.html"
ANIMATION = f"{REPORT}/training.gif"
SWEEP_REPORT = "sweep"
SAMPLE_GRID = f"{REPORT}/samples.png"
SERVING = "serving/1"  # TensorFlow Serving expects a number below the model's folder
