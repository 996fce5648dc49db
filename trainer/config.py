"""The manifest of a training run as pydantic models: keys, defaults and their meaning."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from corpus.config import Config
from corpus.storage.location import check_scheme, is_url, local_path, normalized
from corpus.storage.redact import redact
from model.architectures import carries_gradient
from model.attention import Kernel
from model.blocks import Recompute
from model.config import SIZES, ModelConfig, config_for

Objective = Literal["response", "all"]
Logger = Literal["tensorboard", "wandb", "mlflow", "trackio"]
"""A sink of metrics, named as the package that it needs."""


class BatchConfig(Config):
    """Global batches and their rows."""

    tokens: int = Field(gt=0)
    """G: positions of one optimizer step over all ranks, padding included."""
    row_tokens: int = Field(gt=0, le=65_535)
    """T: positions of a row. A sample of n tokens takes n - 1 of them: its end tag is a target and never an input."""
    truncate: bool = False
    """Cut the end of the response of samples that do not fit into a row, instead of refusing them."""
    micro_rows: int | None = Field(default=None, gt=0)
    """Rows per forward and backward pass of a rank, whose gradients accumulate. None: all its rows of a batch."""

    @model_validator(mode="after")
    def _check_rows(self) -> "BatchConfig":
        if self.tokens % self.row_tokens:
            below = max(1, self.tokens // self.row_tokens) * self.row_tokens
            raise ValueError(
                f"tokens is {self.tokens}, not a multiple of row_tokens ({self.row_tokens}): try tokens={below}"
            )
        return self


class OptimizerConfig(Config):
    """Adam-atan2 and the moving average of the weights, see `trainer.optim`."""

    lr: float = Field(gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.1, ge=0)
    ema: float = Field(default=0.9999, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, used for evaluation and release."""
    moments: Literal["fp32", "bf16"] = "fp32"
    """In which both moments are stored. bf16: 4 bytes per weight less, the updates are rounded differently."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the gradients, to which longer ones are scaled down; None: no clipping."""

    @field_validator("betas")
    @classmethod
    def _check_betas(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("expected two numbers from 0 to below 1")
        return betas


class ScheduleConfig(Config):
    """Learning rate and depth K of backpropagation over the run."""

    renamed: ClassVar[dict[str, str]] = {"floor": "min_lr_ratio"}

    warmup_steps: int = Field(default=2000, ge=0)
    decay: Literal["constant", "cosine"] = "constant"
    min_lr_ratio: float = Field(default=0.1, ge=0, le=1)
    """Learning rate at the end of the cosine, as a share of the peak."""
    k_start: int | None = Field(default=None, ge=1)
    """Applications that carry gradients at the start; None: the default of the architecture (2 for HRM)."""
    k_end: int | None = Field(default=None, ge=1)
    """Applications that carry gradients after the ramp; None: the default of the architecture (5 for HRM)."""
    k_ramp: float = Field(default=0.2, ge=0, le=1)
    """Share of all steps over which K grows."""


class CheckpointConfig(Config):
    """Checkpoints."""

    every: int = Field(default=500, gt=0)
    """Steps between two checkpoints; one more is written at the end, and when the run is asked to stop."""
    keep: int = Field(default=2, ge=1)
    """Number of newest checkpoints to keep."""
    keep_every: int | None = Field(default=None, gt=0)
    """Checkpoints whose step is a multiple of this are never deleted."""
    path: str | None = None
    """Folder or fsspec URL; None: OUT/checkpoints."""

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str | None) -> str | None:
        return None if path is None else _checked_location(path)


class TasksConfig(Config):
    """Benchmarks of the averaged weights during the run, see `trainer.benchmark`; written to OUT/benchmarks."""

    names: tuple[str, ...] = ()
    """Tasks, such as gsm8k and mmlu; not those that execute programs."""
    files: tuple[Path, ...] = ()
    """Tasks in YAML or Python files."""
    data: str | None = None
    """Folder or fsspec URL in which tasks find their questions."""
    every: int = Field(default=5000, gt=0)
    """Steps between two runs of the tasks; the run also ends with one."""
    limit: int | None = Field(default=None, gt=0)
    """Largest number of questions of each task; None: all."""
    shots: dict[str, int] = Field(default_factory=dict)
    """Task to its number of solved examples in a prompt, where it is not the task's own."""
    batch: int = Field(default=32, gt=0)
    """Prompts that are decoded at once on each rank."""


class EvalConfig(Config):
    """Held-out evaluation of the averaged weights."""

    every: int = Field(default=500, gt=0)
    """Steps between two evaluations; the run also starts and ends with one."""
    rows_per_family: int = Field(default=64, ge=0)
    """Largest number of questions of each task family; 0 turns evaluation off."""
    tasks: TasksConfig | None = None
    """Benchmarks; None: none."""


class DiagnoseConfig(Config):
    """Diagnostics of the last weights (`trainer.diagnostics`), written to the metrics and OUT/diagnostics."""

    every: int = Field(default=0, ge=0)
    """Steps between two diagnoses; 0: none."""
    rows_per_family: int = Field(default=8, gt=0)
    """Held-out questions of each task family to measure on."""


class TrainConfig(Config):
    """A training run."""

    renamed: ClassVar[dict[str, str]] = {"deadline": "storage_timeout", "ahead": "prefetch_batches"}

    data: str
    """Folder or fsspec URL of a built dataset."""
    out: Path = Path("out/train")
    """Folder of the run: metrics, plans, cached shards, checkpoints."""
    cache: Path | None = None
    """Folder that caches a remote dataset; None: OUT/cache."""
    cache_bytes: int | None = Field(default=None, gt=0)
    """Largest size of the cached shards; those that the plan needs last are deleted first. None: no limit."""
    prefetch_bytes: int = Field(default=2**30, gt=0)
    """Bytes of shards of a remote dataset that are fetched ahead of training."""
    storage_timeout: float = Field(default=600, gt=0)
    """Seconds after which the run stops if a file of a remote dataset cannot be fetched or of a checkpoint stored."""
    stall_timeout: float = Field(default=1800, gt=0)
    """Seconds without progress, as when another rank is frozen, after which the process exits as resumable. A step, a
    batch of an evaluation, a diagnosis or the last checkpoint must not take longer."""
    stop_timeout: float = Field(default=60, gt=0)
    """The same after SIGTERM or SIGINT, in a run with steps of up to half of it; twice the longest step in others."""
    model: dict[str, Any] = Field(default_factory=lambda: {"size": "tiny"})
    """`size`, and fields of `model.config.ModelConfig` that override those of the size."""
    init: str | None = None
    """Weights that a new run starts from, with a fresh optimizer: a run's folder, a checkpoint's folder, a URL of
    either, or a folder in the Hugging Face format. Shape and tokenizer must be those of `model` and `data`. A run that
    continues from its own checkpoint does not read it. None: weights drawn from `seed`."""
    init_weights: Literal["averaged", "last"] = "averaged"
    """Which weights of a checkpoint to start from: the moving average, or those of the last step."""
    objective: Objective = "response"
    """Target tokens: those of the response, or all of a sample except its first (needs model.mask: causal)."""
    batch: BatchConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = ScheduleConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: tuple[Logger, ...] | None = None
    """Where metrics go besides OUT/metrics.jsonl and the console: some of tensorboard, wandb (offline unless WANDB_MODE
    is set), mlflow (OUT/mlruns unless MLFLOW_TRACKING_URI is set), trackio. None: tensorboard, if it is installed."""
    eval: EvalConfig = EvalConfig()
    diagnose: DiagnoseConfig = DiagnoseConfig()
    epochs: int | None = Field(default=None, gt=0)
    """Length of the run; exactly one of `epochs` and `steps` must be set."""
    steps: int | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the initial weights and of the order of the data."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`."""
    distribution: Literal["ddp", "fsdp2"] = "ddp"
    """Distribution of weights and optimizer state: replicated on each rank, or sharded. May change between two starts
    of a run, like the number of ranks."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: matrix products under autocast; weights and optimizer stay in fp32."""
    attention: Kernel | Literal["auto"] = "auto"
    """Attention kernel (`model.attention`): dense, flex, flex64, flash or varlen; auto: the fastest on the device,
    measured at the start."""
    compile: bool = False
    """Compile the blocks with torch.compile: takes minutes at the start, makes steps faster."""
    recompute: Recompute = "none"
    """What the backward pass recomputes instead of keeping it. elementwise: norms, rotations, gates and activation
    functions of all blocks; keeps the outputs of matrix products and attention, about 60 % of the memory. blocks: the
    blocks of the L stack whole; slower. On a GPU, elementwise needs `compile`."""
    float8: bool = False
    """Linear layers of the stacks in float8 by torchao (precision: bf16, a GPU of compute capability 8.9 or above)."""
    threads: int | None = Field(default=None, gt=0)
    """CPU threads of torch; None: torch's default. On a CPU, results are bit-identical for the same number only."""
    prefetch_batches: int = Field(default=4, gt=0)
    """Batches that are prepared ahead of the model."""
    max_skipped: int = Field(default=10, ge=0)
    """Steps with a non-finite loss or gradient that are skipped before the run stops."""

    @field_validator("data", "init")
    @classmethod
    def _check_read(cls, location: str | None) -> str | None:
        return None if location is None else _checked_location(location)

    @field_validator("out", "cache", mode="before")
    @classmethod
    def _check_local(cls, folder: Any) -> Any:
        if not isinstance(folder, str):
            return folder
        if is_url(folder):
            raise ValueError(
                f"{redact(folder)} is a URL; expected a folder of this machine (data and checkpoint.path may be URLs)"
            )
        return local_path(folder)

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: dict[str, Any]) -> dict[str, Any]:
        if "vocab_size" in model:
            raise ValueError("vocab_size follows from the dataset's tokenizer; remove it")
        fields = {"size": "tiny", **model}
        if not isinstance(fields["size"], str):
            raise ValueError(f"size is {fields['size']!r}; known sizes: {', '.join(SIZES)}")
        config_for(vocab_size=1, **fields)
        return fields

    @field_validator("log")
    @classmethod
    def _check_log(cls, log: tuple[Logger, ...] | None) -> tuple[Logger, ...] | None:
        for name in log or ():
            if find_spec(name) is None:
                raise ValueError(f"{name} is not installed: pip install {name}, or remove it")
        return log

    @property
    def loggers(self) -> tuple[Logger, ...]:
        """`log`, or its default."""
        if self.log is not None:
            return self.log
        return ("tensorboard",) if find_spec("tensorboard") is not None else ()

    @model_validator(mode="after")
    def _check_length(self) -> "TrainConfig":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("set exactly one of epochs and steps")
        return self

    @model_validator(mode="after")
    def _check_diagnose(self) -> "TrainConfig":
        if self.diagnose.every and self.distribution == "fsdp2":
            raise ValueError(
                "diagnose.every needs all weights on one rank, but distribution is fsdp2: remove it, and run "
                "python -m trainer.diagnose on a checkpoint"
            )
        return self

    @model_validator(mode="after")
    def _check_tasks(self) -> "TrainConfig":
        if self.eval.tasks is not None and self.distribution == "fsdp2":
            raise ValueError(
                "eval.tasks needs all weights on each rank, but distribution is fsdp2: remove it, and run "
                "python -m trainer.benchmark on a checkpoint"
            )
        return self

    @model_validator(mode="after")
    def _check_objective(self) -> "TrainConfig":
        if self.objective == "all" and self.model_config_for(vocab_size=1).mask != "causal":
            raise ValueError(
                "objective is all, but under the mask prefix_lm a position of the prefix sees the token it is to "
                "predict: set model.mask=causal, or objective=response"
            )
        return self

    @model_validator(mode="after")
    def _check_recompute(self) -> "TrainConfig":
        if self.recompute == "blocks" and "L_module" not in self.model_config_for(vocab_size=1).stacks:
            raise ValueError(
                f"recompute: blocks is for the L stack, which {self.model['architecture']} does not have: "
                "set recompute=elementwise, or remove it"
            )
        return self

    @model_validator(mode="after")
    def _check_float8(self) -> "TrainConfig":
        if self.float8 and self.precision != "bf16":
            raise ValueError(f"float8 is for precision=bf16, and precision is {self.precision}")
        if self.float8 and find_spec("torchao") is None:
            raise ValueError("float8 needs torchao, which is not installed: pip install torchao, or remove this")
        return self

    @model_validator(mode="after")
    def _check_depths(self) -> "TrainConfig":
        model = self.model_config_for(vocab_size=1)
        for name, k in zip(("k_start", "k_end"), self.depths(model), strict=True):
            try:
                carries_gradient(model.schedule, k)
            except ValueError as error:
                raise ValueError(f"schedule.{name}: {error}") from None
        return self

    def model_config_for(self, vocab_size: int) -> ModelConfig:
        """The model's configuration for a dataset with this vocabulary."""
        return config_for(vocab_size=vocab_size, **self.model)

    def depths(self, model: ModelConfig) -> tuple[int, int]:
        """K at the start of training and after the ramp."""
        start, end = model.depths
        return self.schedule.k_start or start, self.schedule.k_end or end

    def redacted(self) -> dict[str, Any]:
        """All keys and values, without the credentials in URLs."""
        dumped = self.model_dump(mode="json")
        dumped["data"] = redact(self.data)
        dumped["init"] = None if self.init is None else redact(self.init)
        if self.checkpoint.path is not None:
            dumped["checkpoint"]["path"] = redact(self.checkpoint.path)
        return dumped

    @property
    def checkpoint_url(self) -> str:
        """Folder or URL of the checkpoints."""
        return self.checkpoint.path or str(self.out / "checkpoints")

    @property
    def cache_folder(self) -> Path:
        """Folder that caches a remote dataset."""
        return self.cache or self.out / "cache"


def _checked_location(location: str) -> str:
    """A local path with `~` expanded, or a URL whose scheme is known to be supported."""
    check_scheme(location)
    return normalized(location)
