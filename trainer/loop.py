"""The training loop: from a manifest to a trained model, from wherever the run is.

    config ─ dataset, plan ─▶ loader ─ Step ─▶ forward, backward, sum over ranks ─▶ optimizer ─▶ metrics
                                                      every N steps: evaluation, checkpoint

A step boundary is the only place where the state is whole: checkpoints,
evaluations and requests to stop are served there. All ranks stop at the same
one: whether one of them has been asked travels with the loss, and so does
whether one of them has no next batch yet. If so, they wait for it together, and
agree now and then whether to go on waiting. What a step computes depends
on the manifest, the dataset and the checkpoint only; on a CPU with the same
number of threads it is the same bit for bit, however often the run was killed.
"""

import json
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace

import torch

from corpus.config import ConfigError
from model.attention import Kernel
from model.config import ModelConfig
from model.execution import Execution, prepare
from model.hrm import HRM
from model.kernels import describe, fastest, measure, unavailable
from trainer.checkpointing.checkpoint import Checkpoint
from trainer.checkpointing.manager import CheckpointManager
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.data.loader import Loader, Step
from trainer.data.plan import Plan, PlanInputs, fit_lengths
from trainer.data.shards import ShardStore
from trainer.diagnostics.page import write_page
from trainer.diagnostics.report import diagnose, question_batch
from trainer.distributed.layout import Replicated, Sharded
from trainer.distributed.stragglers import StragglerMonitor, straggler_warning
from trainer.distributed.world import World
from trainer.evaluate import InterruptedEvaluationError, evaluate
from trainer.metrics import FILE, Metrics, evaluated_steps
from trainer.optim import AdamAtan2
from trainer.position import Position
from trainer.schedule import gradient_depth, learning_rate
from trainer.stop import EXIT_RESUMABLE, StopRequest

WAIT = 1.0
"""Seconds that ranks wait for their batches before they look whether one of them has been asked to stop."""


class TrainingError(Exception):
    """Training cannot go on; the message says at which step, why, and what to try."""


def plan_inputs(config: TrainConfig, dataset: Dataset) -> PlanInputs:
    """What the batches of a run follow from."""
    return PlanInputs(
        fingerprint=dataset.fingerprint,
        seed=config.seed,
        batch_tokens=config.batch.tokens,
        row_tokens=config.batch.row_tokens,
        truncate=config.batch.truncate,
    )


class Run:
    """One training run, in one of its processes.

    Parameters
    ----------
    config, dataset
        What to train, on what.
    world
        The processes that train together.

    Raises
    ------
    ConfigError
        The run's folder has a checkpoint that another manifest or dataset made.
    trainer.data.fetch.DatasetError, trainer.data.draw.PlanError
        The dataset cannot be used, or not be packed as the manifest asks.
    """

    def __init__(self, config: TrainConfig, dataset: Dataset, world: World):
        self.config = config
        self.dataset = dataset
        self.world = world
        self.tokenizer = dataset.tokenizer()
        self.inputs = plan_inputs(config, dataset)
        self.lengths = fit_lengths(dataset.lengths, row_tokens=config.batch.row_tokens, truncate=config.batch.truncate)
        self.plan = Plan(self.inputs, dataset.strata, self.lengths, config.out / "plans")
        first = self.plan.chunk(0, 0)
        first.rows_of_rank(0, self.lengths, rank=world.rank, world_size=world.size)
        # What schedules take for the number of steps; epochs may have a few batches more or less.
        self.total = config.steps or (config.epochs or 0) * self.plan.batches
        self.model_config = config.model_config_for(dataset.vocab_size)
        self.model = HRM(self.model_config, seed=config.seed).to(world.device)
        prepare(self.model, self._execution())
        self.layout = self._lay_out()
        self.optimizer = AdamAtan2(
            self.model,
            betas=config.optimizer.betas,
            weight_decay=config.optimizer.weight_decay,
            ema=config.optimizer.ema,
        )
        self.lag = StragglerMonitor(world)
        self.loss: float | None = None
        self.progress = Position(
            step=0, updates=0, plan_key=self.inputs.key, plan_hash=first.hash, epoch=0, chunk=0, next_batch=0
        )
        self.checkpoints = CheckpointManager(
            config.checkpoint_url,
            staging=config.out / "staging" / f"node-{world.node}",
            keep=config.checkpoint.keep,
            keep_every=config.checkpoint.keep_every,
            storage_timeout=config.deadline,
            world=world,
            history=config.out / FILE,
        )
        if world.is_local_main:
            self.checkpoints.clean()
        self.checkpoints.check_writable()
        checkpoint = self.checkpoints.newest()
        if checkpoint is not None:
            self._resume(checkpoint)

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        if self.config.steps is not None:
            return self.progress.step >= self.config.steps
        assert self.config.epochs is not None
        last = self.config.epochs - 1
        at = self.progress
        return at.epoch > last or (at.epoch == last and self.plan.ends(at.epoch, at.chunk, at.next_batch))

    # --- Resume ------------------------------------------------------------------------------------------------

    def _resume(self, checkpoint: Checkpoint) -> None:
        made_with = checkpoint.sidecar("manifest.json")
        here = {**asdict(self.inputs), "objective": self.config.objective, "model": asdict(self.model_config)}
        there = {
            **made_with["plan"],
            "objective": made_with["manifest"]["objective"],
            "model": checkpoint.sidecar("config.json")["model"],
        }
        differing = [key for key in here if here[key] != there.get(key)]
        if differing or checkpoint.position.plan_key != self.inputs.key:
            what = "; ".join(f"{key} was {there.get(key)} and is {here[key]}" for key in differing)
            raise ConfigError(
                f"{checkpoint.folder} belongs to another run: {what or 'its batch plan has another format'}. "
                f"Restore these values to continue it, or set another out= to begin a new run"
            )
        at = checkpoint.position
        planned = self.plan.chunk(at.epoch, at.chunk).hash
        if planned != at.plan_hash:
            raise ConfigError(
                f"{checkpoint.folder} counts batches of another plan of epoch {at.epoch}, chunk {at.chunk} "
                f"({at.plan_hash}) than this version makes ({planned}): continue it with the version that began it, "
                f"or set another out= to begin a new run"
            )
        tensors = {"model": self.model.state_dict(), **self.optimizer.state_dict()}
        checkpoint.load_into(tensors, group=self.world.saving)
        self.optimizer.updates = checkpoint.position.updates
        checkpoint.restore_random_state()
        self.progress = checkpoint.position

    # --- Train -------------------------------------------------------------------------------------------------

    def train(self, request: StopRequest) -> int:
        """Train to the end, or until asked to stop.

        Parameters
        ----------
        request
            Looked at after each step; every rank stops at the step at which one of them has been asked.

        Returns
        -------
        int
            Exit code: 0, or `EXIT_RESUMABLE`.

        Raises
        ------
        TrainingError
            Too many steps had a loss or gradient that is not finite.
        trainer.data.fetch.DatasetError, model.loading.CheckpointError
            A shard cannot be read, a checkpoint not be written.
        """
        known = self.world.broadcast_from_main(lambda: evaluated_steps(self.config.out, self.progress.step))
        due = self._evaluation_is_due() and self.progress.step not in known
        if self.finished and not due:
            if self.world.is_main:
                print(f"already finished: {self.progress.step:,} steps are done, see {self.config.out}")
            return 0
        request.has_unsaved_work = lambda: self.progress.step > self.checkpoints.newest_step
        metrics = Metrics(self.config.out, self.progress.step) if self.world.is_main else None
        if metrics is not None and self.progress.step:
            metrics.say(f"continuing after step {self.progress.step:,}")
        try:
            if due and not self._evaluate(metrics, request):
                return self._leave(metrics, EXIT_RESUMABLE)
            if self.finished:
                return self._leave(metrics, 0)
            with self._loader() as loader:
                return self._train(loader, request, metrics)
        finally:
            self.checkpoints.wait()
            if metrics is not None:
                metrics.close()

    def _loader(self) -> Loader:
        return Loader(
            self.plan,
            ShardStore(self.dataset, cache_bytes=self.config.cache_bytes),
            self.lengths,
            row_tokens=self.config.batch.row_tokens,
            epochs=self.config.epochs,
            epoch=self.progress.epoch,
            chunk=self.progress.chunk,
            next_batch=self.progress.next_batch,
            rank=self.world.rank,
            world_size=self.world.size,
            ahead=self.config.ahead,
            prefetch_bytes=self.config.prefetch_bytes,
            objective=self.config.objective,
            device=self.world.device,
        )

    def _train(self, loader: Loader, request: StopRequest, metrics: Metrics | None) -> int:
        steps = iter(loader)
        supplied = False  # whether every rank is known to have its next batch
        while True:
            began = time.perf_counter()
            waited = 0.0 if supplied else self._wait(loader, request)
            if waited is None:
                self._save()
                return self._leave(metrics, EXIT_RESUMABLE)
            step = next(steps, None)
            if step is None:
                raise TrainingError(
                    f"the data ended at step {self.progress.step:,}, before the run did; this is an error in the plan"
                )
            values, stop, supplied = self._step(step, loader, request)
            compared = self.lag.compare(self.progress.step, waited)
            saved = self.checkpoints.collect()
            if metrics is not None:
                seconds = time.perf_counter() - began
                values |= {
                    "step_seconds": seconds,
                    "data_wait_seconds": waited,
                    "tokens_per_second": step.tokens / seconds,
                }
                metrics.step(self.progress.step, self.total, values | compared)
                metrics.checkpoints(saved)
                if lags := straggler_warning(compared):
                    metrics.say(lags)
            if self._evaluation_is_due() and not stop:
                stop = not self._evaluate(metrics, request)
            if metrics is not None and self._diagnosis_is_due() and not stop:
                self._diagnose(metrics)
            finished = self.finished
            if finished or stop or self.progress.step % self.config.checkpoint.every == 0:
                self._save()
            if finished or stop:
                return self._leave(metrics, EXIT_RESUMABLE if stop else 0)

    def _wait(self, loader: Loader, request: StopRequest) -> float | None:
        """Wait until every rank has its next batch.

        Returns
        -------
        float or None
            Seconds that this rank waited for its own; None where some rank was asked to stop before all had theirs.
        """
        waited = 0.0
        while True:
            began = time.perf_counter()
            ready = loader.ready(WAIT)
            waited += time.perf_counter() - began
            if not self.world.any(not ready):
                return waited
            if self.world.any(request.received is not None):
                return None

    def _leave(self, metrics: Metrics | None, code: int) -> int:
        """Part, with everything written; returns the exit code."""
        self.checkpoints.wait()
        # torchrun ends the other ranks when one leaves with a code; the leader may still be writing.
        self.world.barrier()
        if metrics is not None:
            metrics.checkpoints(self.checkpoints.collect())
            how = "finished" if code == 0 else "stopped"
            what = "" if code == 0 else "; the same command continues"
            metrics.say(f"{how} after step {self.progress.step:,}{what}")
        return code

    def _step(self, step: Step, loader: Loader, request: StopRequest) -> tuple[dict[str, float | int], bool, bool]:
        """One optimizer step.

        Returns
        -------
        values, stop, supplied
            What to report, whether some rank was asked to stop, and whether every rank has its next batch.
        """
        at, config = self.progress, self.config
        lr = learning_rate(at.step, self.total, peak=config.optimizer.lr, schedule=config.schedule)
        depths = config.depths(self.model_config)
        k = gradient_depth(at.step, self.total, depths=depths, ramp=config.schedule.k_ramp)
        self.lag.compute_started()
        share = self._pass(step, k)
        self.lag.compute_ended()
        self.layout.end()
        flags = [float(request.received is not None), float(not loader.ready())]
        status = torch.tensor([0.0, *flags], dtype=torch.float64, device=self.world.device)
        status[0] = share
        self.world.sum(status)
        norm = self.layout.norm()
        loss, stops, without_batch = status.tolist()
        if math.isfinite(loss) and math.isfinite(norm):
            if config.optimizer.clip_norm is not None and norm > config.optimizer.clip_norm:
                self.layout.scale(config.optimizer.clip_norm / norm)
            self.optimizer.step(self.layout.gradients, lr)
        self.loss = loss
        self.progress = replace(
            at,
            step=at.step + 1,
            updates=self.optimizer.updates,
            epoch=step.epoch,
            chunk=step.chunk,
            next_batch=step.index + 1,
            plan_hash=step.plan_hash,
        )
        skipped = self.progress.step - self.progress.updates
        if skipped > config.max_skipped:
            raise TrainingError(
                f"step {self.progress.step:,}: loss {loss} and gradient norm {norm}; {skipped} steps were skipped for "
                f"such values, and max_skipped is {config.max_skipped}: lower optimizer.lr, or set optimizer.clip_norm"
            )
        values = {
            "loss": loss,
            "lr": lr,
            "k": k,
            "gradient_norm": norm,
            "epoch": step.epoch,
            "chunk": step.chunk,
            "batch": step.index,
            "tokens": step.tokens,
            "target_tokens": step.targets,
            "skipped": skipped,
        }
        return values, stops > 0, without_batch == 0

    def _pass(self, step: Step, k: int) -> torch.Tensor:
        """Gradients of this rank's rows; returns its share of the batch's loss. Without a target both are zero."""
        parts = [step.batch] if self.config.batch.micro_rows is None else step.batch.split(self.config.batch.micro_rows)
        share = torch.zeros((), device=self.world.device)
        self.layout.begin()
        for part in parts:
            with self._precision():
                nll, _ = self.model(part.to(self.world.device), k=k)
            loss = nll / max(1, step.targets)
            loss.backward()
            share += loss.detach()
        return share

    def _lay_out(self) -> Replicated | Sharded:
        if self.config.distribution == "ddp":
            return Replicated(self.model, self.world)
        dtype = torch.bfloat16 if self.config.precision == "bf16" else None
        return Sharded(self.model, self.world, dtype=dtype)

    def _execution(self) -> Execution:
        """How the manifest wants the model to be computed."""
        config, device = self.config, self.world.device
        if config.float8 and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9)):
            raise ConfigError("float8 needs a GPU of compute capability 8.9 or above, which is not here: remove it")
        return Execution(
            attention=self._attention(), compile=config.compile, recompute=config.recompute, float8=config.float8
        )

    def _attention(self) -> Kernel:
        """The attention kernel that the manifest names, or the fastest one; the same on each rank."""
        config, device = self.config, self.world.device
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        if config.attention != "auto":
            if refused := unavailable(config.attention, device=device, dtype=dtype):
                raise ConfigError(f"attention: {config.attention} {refused}; set attention=auto")
            return config.attention
        if device.type == "cpu":
            return "dense"  # the only one with a backward pass there
        rows = self.inputs.rows // self.world.size
        shape = {
            "rows": min(rows, config.batch.micro_rows or rows),
            "length": config.batch.row_tokens,
            "sample_tokens": max(1, self.plan.tokens // self.plan.draws),
        }
        timings = self.world.broadcast_from_main(
            lambda: measure(self.model_config, **shape, device=device, dtype=dtype)
        )
        if self.world.is_main:
            print(f"attention: {fastest(timings)} ({describe(timings)})", flush=True)
        return fastest(timings)

    def _precision(self) -> AbstractContextManager[object]:
        if self.config.precision == "bf16":
            return torch.autocast(self.world.device.type, torch.bfloat16)
        return nullcontext()

    # --- At step boundaries ------------------------------------------------------------------------------------

    def _evaluation_is_due(self) -> bool:
        at = self.progress.step
        possible = self.config.eval.rows_per_family > 0 and len(self.dataset.eval_files) > 0
        return possible and (at % self.config.eval.every == 0 or self.finished)

    def _evaluate(self, metrics: Metrics | None, request: StopRequest) -> bool:
        """Evaluate the averaged weights; False where that was given up because some rank was asked to stop."""
        with _random_state_kept(self.world.device), self.optimizer.averaged_weights(), self._precision():
            self.model.eval()
            try:
                values = evaluate(
                    self.model,
                    self.dataset,
                    self.tokenizer,
                    rows_per_family=self.config.eval.rows_per_family,
                    row_tokens=self.config.batch.row_tokens,
                    world=self.world,
                    stop=lambda: request.received is not None,
                )
            except InterruptedEvaluationError:
                return False
            finally:
                self.model.train()
                self.layout.weights_changed()
        if metrics is not None:
            metrics.evaluation(self.progress.step, values)
        return True

    def _diagnosis_is_due(self) -> bool:
        every = self.config.diagnose.every
        return every > 0 and self.progress.step % every == 0

    def _diagnose(self, metrics: Metrics) -> None:
        """Measure the weights as they are; in float32, and without a trace in weights and gradients."""
        batch = question_batch(self.dataset, self.tokenizer, rows_per_family=self.config.diagnose.rows_per_family)
        self.model.eval()
        report = diagnose(self.model, batch)
        self.model.train()
        step = self.progress.step
        metrics.diagnosis(step, report.values())
        write_page(report, self.config.out / f"diagnostics/step-{step:08d}.html", title=f"Step {step:,}")

    def _save(self) -> None:
        about = {"model": asdict(self.model_config), "special": dict(self.dataset.special)}
        manifest = {"manifest": self.config.shown(), "plan": asdict(self.inputs)}
        self.checkpoints.save(
            self.progress,
            {"model": self.model.state_dict(), **self.optimizer.state_dict()},
            loss=self.loss if self.loss is not None and math.isfinite(self.loss) else None,
            sidecars={
                "config.json": json.dumps(about, indent=1),
                "manifest.json": json.dumps(manifest, indent=1),
                "tokenizer.json": self.dataset.tokenizer_file.read_bytes(),
            },
        )


def model_memory(config: ModelConfig) -> int:
    """Bytes of weights, gradients, both moments, averaged weights and the update in the making, all float32."""
    return 6 * 4 * config.parameters


def _random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """Whatever the block draws, torch's generators go on as if it had not been there."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
