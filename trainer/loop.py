"""The training loop: drives a run from a position in its batch plan to its end.

    Loader ─ Step ─▶ forward, backward ─▶ gradients summed over ranks ─▶ optimizer ─▶ metrics
                                                     at step boundaries: evaluators, checkpoints, requests to stop

State is complete only at a step boundary, so checkpoints, evaluations and requests to stop are handled there. All ranks
stop at the same one: whether some rank was asked to stop, or has no next batch yet, is summed together with the loss.
While some rank has no batch, all ranks wait together and check for a request to stop every `WAIT_SECONDS`.

The result depends on config, dataset and checkpoint only. On a CPU with the same number of threads it is the same bit
for bit, however often the run was killed.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict

import torch

from corpus.cli import say
from corpus.terminal import counted
from trainer.build import Run
from trainer.compilation import CompilationMonitor
from trainer.data.loader import Loader
from trainer.data.shards import ShardStore
from trainer.distributed.stragglers import StragglerMonitor, straggler_warning
from trainer.evaluate import EvaluationInterruptedError
from trainer.evaluators import EvaluationContext, Evaluator
from trainer.position import Position
from trainer.resume import save
from trainer.sinks.jsonl import FILE, recorded_steps
from trainer.speed import SpeedMeter
from trainer.step import TrainingError, compile_ahead, train_step
from trainer.stop import EXIT_RESUMABLE, StopRequest

WAIT_SECONDS = 1.0
"""Seconds that ranks wait for their batches before they check for a request to stop."""


class Loop:
    """The loop over optimizer steps in one of the processes of a run.

    Parameters
    ----------
    run, position
        The parts of the run, and the position they were restored to.
    request
        Checked at step boundaries and during evaluations.
    """

    def __init__(self, run: Run, position: Position, request: StopRequest):
        self.position = position
        self._run = run
        self._request = request
        self._stragglers = StragglerMonitor(run.world)
        self._speed = SpeedMeter(run)
        self._compilations: CompilationMonitor | None = None
        self._loss: float | None = None

    @property
    def finished(self) -> bool:
        """Whether no step is left: of the config's steps, or in the epochs of the config or of the dataset."""
        steps = self._run.config.steps
        return self._is_used_up or (steps is not None and self.position.step >= steps)

    @property
    def _epochs(self) -> int | None:
        """Epochs after which the run ends: the config's, or those that the dataset was built for; None: no bound."""
        return self._run.config.epochs or self._run.dataset.epochs

    @property
    def _is_used_up(self) -> bool:
        """Whether no batch is left."""
        at = self.position
        if self._epochs is None:
            return False
        last = self._epochs - 1
        return at.epoch > last or (at.epoch == last and self._run.plan.ends(at.epoch, at.chunk, at.next_batch))

    def train(self) -> int:
        """Train to the end, or until asked to stop.

        Returns
        -------
        int
            Exit code: 0, or `EXIT_RESUMABLE`.

        Raises
        ------
        TrainingError
            Too many steps had a loss or gradient that is not finite.
        trainer.data.fetch.DatasetError, model.loading.CheckpointError
            A shard cannot be read, or a checkpoint cannot be written.
        """
        run = self._run
        due = self._due_evaluators()
        unrecorded = run.world.broadcast_from_main(lambda: [self._is_unrecorded(evaluator) for evaluator in due])
        missing = [evaluator for evaluator, is_missing in zip(due, unrecorded, strict=True) if is_missing]
        if self.finished and not missing:
            if run.world.is_main:
                done = counted(self.position.step, "step is", "steps are")
                say(f"already finished: {done} done, see {run.config.out}")
            return 0
        self._request.begin(stall_timeout=run.config.stall_timeout, stop_timeout=run.config.stop_timeout)
        self._request.has_unsaved_work = lambda: self.position.step > run.checkpoints.newest_step
        run.metrics.start(self.position.step)
        if self.position.step:
            run.metrics.message(f"continuing after step {self.position.step:,}")
        if run.config.compile:
            self._compilations = CompilationMonitor()
        try:
            if not self._evaluate(missing):
                return self._leave(EXIT_RESUMABLE)
            if self.finished:
                return self._leave(0)
            with self._loader() as loader:
                self._compile_ahead()
                return self._train(loader)
        finally:
            if self._compilations is not None:
                self._compilations.close()
            run.checkpoints.wait()
            run.metrics.close()

    def _loader(self) -> Loader:
        run, config = self._run, self._run.config
        return Loader(
            run.plan,
            ShardStore(run.dataset, cache_bytes=config.cache_bytes),
            run.lengths,
            epochs=self._epochs,
            epoch=self.position.epoch,
            chunk=self.position.chunk,
            next_batch=self.position.next_batch,
            rank=run.world.rank,
            world_size=run.world.size,
            prefetch_batches=config.prefetch_batches,
            prefetch_bytes=config.prefetch_bytes,
            objective=config.objective,
            device=run.world.device,
        )

    def _train(self, loader: Loader) -> int:
        run = self._run
        steps = iter(loader)
        all_ready = False
        while True:
            began = time.perf_counter()
            waited = 0.0 if all_ready else self._wait(loader)
            if waited is None:
                self._save()
                return self._leave(EXIT_RESUMABLE)
            step = next(steps, None)
            if step is None:
                raise TrainingError(
                    f"the data ended at step {self.position.step:,}, before the run did; this is an error in the plan"
                )
            result = train_step(
                run,
                self.position,
                step,
                self._stragglers,
                stop_requested=self._stop_requested,
                next_ready=loader.ready,
            )
            self.position, self._loss = result.position, result.values["loss"]
            all_ready, stop = result.all_ready, result.stop
            compared = self._stragglers.compare(self.position.step, waited)
            seconds = time.perf_counter() - began
            timing = {
                "step_seconds": seconds,
                "data_wait_seconds": waited,
                **self._speed.values(step, k=int(result.values["k"]), seconds=seconds),
            }
            run.metrics.write("step", self.position.step, {**result.values, **timing, **compared})
            self._report_compilations(int(result.values["k"]))
            self._record_checkpoints()
            if warning := straggler_warning(compared):
                run.metrics.message(warning)
            if not stop:
                stop = not self._evaluate(self._due_evaluators())
            finished = self.finished
            if finished or stop or self.position.step % run.config.checkpoint.every == 0:
                self._save()
            if finished or stop:
                return self._leave(EXIT_RESUMABLE if stop else 0)

    def _stop_requested(self) -> bool:
        self._request.progress()
        return self._request.received is not None

    def _wait(self, loader: Loader) -> float | None:
        """Wait until every rank has its next batch.

        Returns
        -------
        float or None
            Seconds that this rank waited for its own batch; None if some rank was asked to stop before all had theirs.
        """
        waited = 0.0
        while True:
            began = time.perf_counter()
            ready = loader.ready(WAIT_SECONDS)
            waited += time.perf_counter() - began
            if not self._run.world.any(not ready):
                return waited
            if self._run.world.any(self._stop_requested()):
                return None

    # --- At step boundaries ------------------------------------------------------------------------------------

    def _due_evaluators(self) -> list[Evaluator]:
        step, finished = self.position.step, self.finished
        return [evaluator for evaluator in self._run.evaluators if evaluator.due(step, finished=finished)]

    def _is_unrecorded(self, evaluator: Evaluator) -> bool:
        """Whether the metrics that the run continues lack the evaluation of its position."""
        step = self.position.step
        return step not in recorded_steps(self._run.config.out / FILE, evaluator.name, until=step)

    def _evaluate(self, evaluators: Sequence[Evaluator]) -> bool:
        """Run evaluators and record their values; False if some rank was asked to stop meanwhile."""
        run = self._run
        context = EvaluationContext(
            step=self.position.step,
            model=run.model,
            optimizer=run.optimizer,
            world=run.world,
            autocast=run.autocast,
            stop=self._stop_requested,
        )
        devices = [run.world.device] if run.world.device.type == "cuda" else []
        for evaluator in evaluators:
            with torch.random.fork_rng(devices=devices):
                run.model.eval()
                try:
                    values = evaluator.run(context)
                except EvaluationInterruptedError:
                    return False
                finally:
                    run.model.train()
                    run.layout.reshard()
            run.metrics.write(evaluator.name, self.position.step, values)
        return True

    def _save(self) -> None:
        self._request.is_saving = True
        save(self._run, self.position, self._loss)
        self._request.is_saving = False

    def _compile_ahead(self) -> None:
        """Compile the model if the config asks for it, while the loader prepares the first batches."""
        if self._compilations is None:
            return
        self._run.metrics.message("compiling the model; the first run takes longest, later ones use what torch stored")
        began = time.perf_counter()
        compile_ahead(self._run)
        graphs, seconds = self._compilations.collect()
        total = time.perf_counter() - began
        self._run.metrics.message(f"compiled {_graphs(graphs)} in {seconds:.1f} s ({total:.1f} s with their first run)")

    def _report_compilations(self, k: int) -> None:
        """Print what was compiled since the last call."""
        if self._compilations is None:
            return
        graphs, seconds = self._compilations.collect()
        if graphs:
            where = f"step {self.position.step:,}, K = {k}"
            self._run.metrics.message(f"{where}: compiled {_graphs(graphs)} in {seconds:.1f} s")

    def _record_checkpoints(self) -> None:
        """Record the checkpoints that have been written since the last call."""
        for saved in self._run.checkpoints.collect():
            values = asdict(saved)
            self._run.metrics.write("checkpoint", values.pop("step"), values)

    def _leave(self, code: int) -> int:
        """Wait until everything is written on every rank; returns the exit code."""
        self._request.is_saving = True
        self._request.progress()
        self._run.checkpoints.wait()
        # torchrun ends the other ranks when one exits with a code; rank 0 may still be writing.
        self._run.world.barrier()
        self._record_checkpoints()
        steps = self._run.config.steps
        if code == 0 and steps is not None and self.position.step < steps:
            self._run.metrics.message(
                f"{steps - self.position.step:,} of {steps:,} steps were not done: the {self._epochs:,} epochs that "
                "the dataset was built for are used up"
            )
        end = "finished" if code == 0 else "stopped"
        hint = "" if code == 0 else "; the same command continues"
        self._run.metrics.message(f"{end} after step {self.position.step:,}{hint}")
        return code


def _graphs(number: int) -> str:
    return f"{number} graph{'' if number == 1 else 's'}"
