"""Run the steps of a stage: the same loop for all stages, on one rank or many."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from video_vae.data.content import gone
from video_vae.distributed.ranks import Ranks
from video_vae.distributed.stopping import StopRequest
from video_vae.errors import UserError
from video_vae.progress import Progress, progress
from video_vae.training.adversarial import ADVERSARIAL, DISCRIMINATOR, Adversary
from video_vae.training.agreement import CHECKPOINT, SIGNAL_FLAGS, TIME_UP, Agreed, agree, status_of
from video_vae.training.background import CheckpointWriter
from video_vae.training.checkpoint import CheckpointStore, State
from video_vae.training.counters import Counters
from video_vae.training.datasets import Ahead, Batch
from video_vae.training.journal import Journal
from video_vae.training.memory import out_of_memory_named, peak_memory_gb
from video_vae.training.operations import Speedometer
from video_vae.training.optimization import Optimization
from video_vae.training.plan import epochs_of
from video_vae.training.profiling import Profiler
from video_vae.training.step import Draws
from video_vae.training.task import Task
from video_vae.training.timing import Stopwatch
from video_vae.training.validation import Interrupted, slow_line

log = logging.getLogger(__name__)

FAIR_DRAWS = 100
"""The share of failed draws is taken of at least so many, so that one early failure is no reason to stop."""


class Trainer:
    """Train a stage, from its newest checkpoint or from the start.

    Args:
        task: what to train on what.
        ranks: this process among all.
        store: checkpoints of this training.
        journal: its log.
        deadline: time on the monotonic clock by which to have stopped and saved, or None.
    """

    def __init__(
        self, task: Task, ranks: Ranks, store: CheckpointStore, journal: Journal, deadline: float | None = None
    ) -> None:
        self.task, self.ranks, self.store, self.journal, self.deadline = task, ranks, store, journal, deadline
        self.stage = task.stage
        self.positions, self.micro = ranks.share(self.stage.global_batch, self.stage.micro_batch, task.name)
        self.optimization = Optimization(task.loss.trained(), self.stage, task.steps, ranks)
        self._kept: list[Optimization | Adversary] = [self.optimization]
        self._kept += [] if task.adversary is None else [task.adversary]
        self.counters = Counters()
        self.profiler = Profiler(0, store.folder)
        self.validated: dict[str, float] = {}
        """Figures of the last validation."""
        self.model = self._wrapped()
        self._writer = CheckpointWriter(store, ranks if self.optimization.is_shared else None)
        self._reported: set[str] = set()
        self._stop = StopRequest()
        self._clock = Stopwatch(ranks.device)
        self._saved_at = time.monotonic()
        self._step_seconds = self._save_seconds = 0.0
        # With more than two ranks the order of a sum depends on DDP's buckets, which it lays out again after the first
        # backward pass. One pass that is thrown away makes a resumed training start with the same ones.
        self._settled = ranks.world_size <= 2
        self._speed = Speedometer(task.loss, ranks.device) if ranks.device.type == "cuda" and ranks.is_main else None

    def _wrapped(self) -> torch.nn.Module:
        if not self.ranks.is_distributed:
            return self.task.loss
        devices = [self.ranks.device] if self.ranks.device.type == "cuda" else None
        return DistributedDataParallel(
            self.task.loss, device_ids=devices, forward_sync_buffers=False, gradient_as_bucket_view=True
        )

    def train(self) -> int | None:
        """Take all steps that are left.

        Returns None when the stage is done, else the exit status to end with: 128 + the signal that asked for the end,
        or 75 when the time was up. The state is saved either way.

        Raises:
            UserError: if a loss or gradient is not finite, a clip's file is gone, or too many clips fail; the state
                before the step is saved.
        """
        self._resume()
        steps = range(self.counters.step + 1, self.task.steps + 1)
        ahead = Ahead(
            self.task.plan,
            self.task.source,
            steps,
            self.positions,
            threads=self.task.readers.count if self.task.readers else int(not self.task.source.latents),
            pinned=self.ranks.device.type == "cuda",
        )
        with ExitStack() as stack:
            stack.enter_context(self._stop.listening())
            if self.task.readers is not None:
                stack.callback(self.task.readers.close)
            stack.callback(ahead.close)
            stack.callback(self._writer.close)
            bar = self._bar(stack)
            status = self._validate()
            if status is not None:
                return status
            self._clock.read()
            for batch in ahead:
                status = self._advance(batch, bar)
                if status is not None:
                    return status
        self.journal.write("end", **asdict(self.counters))
        return None

    def _bar(self, stack: ExitStack) -> Progress | None:
        """Show the steps on the first rank while the stack is open."""
        if not self.ranks.is_main:
            return None
        bar = progress(total=self.task.steps, desc=self.task.name, unit="steps", initial=self.counters.step)
        stack.callback(bar.close)
        return bar

    def _advance(self, batch: Batch, bar: Progress | None) -> int | None:
        """Take one step and what follows it; return the exit status where the training is to stop."""
        began = time.monotonic()
        agreed, records = self.train_step(batch)
        self.profiler.stepped(batch.step)
        last = batch.step == self.task.steps
        if batch.step % self.stage.log_every == 0 or last:
            for event, record in records.items():
                self.journal.write(event, batch.step, **record)
        if bar is not None:
            record = records["train"]
            bar.set_postfix(loss=f"{record['loss']:.4g}", l1=f"{record['l1']:.4f}", refresh=False)
            bar.update()
        self._step_seconds = time.monotonic() - began
        self.counters.seconds += self._step_seconds
        status = None if last else status_of(agreed.flags)
        if batch.step % self.stage.checkpoint_every == 0 or last or status is not None or CHECKPOINT in agreed.flags:
            self.save(wait=last or status is not None)
        if status is None:
            status = self._validate()
        if last or status is not None:
            self.profiler.close(batch.step)
        self._clock.read()
        return status

    def train_step(self, batch: Batch) -> tuple[Agreed, dict[str, dict[str, Any]]]:
        """Take one optimizer step; return what the ranks agreed on, and the step's lines of the log by their event.

        Raises:
            UserError: before the update, with the state saved, if the step must not be taken.
        """
        self._clock.mark("data")
        self.ranks.reached(f"reading the clips of step {batch.step}")
        learners = self._learners(batch.step)
        if not self._settled:
            self._accumulate(batch)
            for learner in learners.values():
                learner.zero_grad()
            self._settled = True
        losses, parts = self._accumulate(batch)
        self.ranks.reached(f"the gradients of step {batch.step}")
        agreed = agree(self.ranks, losses, parts, self._asked(), len(batch.failures))
        norms = {event: learner.gradient_norm() for event, learner in learners.items()}
        self._report_failures(batch, agreed)
        finite = self._is_finite(batch, agreed, norms)
        self.counters.skipped += not finite
        rates = dict.fromkeys(learners, 0.0)
        for event, learner in learners.items():
            if finite:
                rates[event] = learner.step(batch.step, norms[event])
            learner.zero_grad()
        self._clock.mark("optimizer")
        self.counters.step = batch.step
        self.counters.drawn += agreed.drawn
        self.counters.failed += agreed.failed
        return agreed, self._records(batch, agreed, norms, rates)

    def _learners(self, step: int) -> dict[str, Optimization | Adversary]:
        """Return what takes an optimizer step, by the event that its line of the log has."""
        adversary = self.task.adversary_at(step)
        return {"train": self.optimization} | ({} if adversary is None else {DISCRIMINATOR: adversary})

    def _accumulate(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Add up the gradients of the rank's micro-batches; return its losses by position and its part of the means."""
        starts = range(0, len(self.positions), self.micro)
        adversary = self.task.adversary_at(batch.step)
        losses = torch.zeros(self.stage.global_batch, dtype=torch.float64, device=self.ranks.device)
        parts: dict[str, Tensor] = {}
        for start in starts:
            rows = slice(start, start + self.micro)
            data = batch.data[rows].to(self.ranks.device, non_blocking=True)
            with self._unsynced() if start != starts[-1] else nullcontext(), self._memory_named(data):
                draws = self._draws(batch.step, self.positions[rows])
                result = self.model(data, batch.latents, batch.images, draws, adversary)
                self._clock.mark("forward")
                loss = result["loss"] + result[ADVERSARIAL] if adversary else result["loss"]
                (loss / len(starts)).backward()
                result |= adversary.learn(1 / len(starts)) if adversary else {}
            self._clock.mark("backward")
            for name, value in result.items():
                share = value.detach().double() * (self.micro / self.stage.global_batch)
                parts[name] = parts[name] + share if name in parts else share
            first = self.positions[start]
            losses[first : first + self.micro] = loss.detach()
        return losses, parts

    def _memory_named(self, data: Tensor) -> AbstractContextManager[None]:
        """Say which clips did not fit into memory, and which settings to change."""
        place, sizes = f"{self.task.name}, step {self.counters.step + 1}", len(self.task.plan.sizes)
        return out_of_memory_named(place, data, self.stage, sizes=sizes)

    def _unsynced(self) -> AbstractContextManager[None]:
        if isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return nullcontext()

    def _draws(self, step: int, positions: range) -> Draws:
        plan = self.task.plan
        return Draws(
            spatial_seeds=[plan.noise_seed(step, position, "spatial") for position in positions],
            temporal_seeds=[plan.noise_seed(step, position, "temporal") for position in positions],
            scored_frames=[plan.scored_frames(step, position, self.stage.perceptual_frames) for position in positions],
        )

    def _asked(self) -> dict[str, bool]:
        """Return what this rank asks the others for."""
        flags = {name: self._stop.signal == number for number, name in SIGNAL_FLAGS.items()}
        now = time.monotonic()
        if self.deadline is not None:
            flags[TIME_UP] = now + 2 * (self._step_seconds + self._save_seconds) > self.deadline
        flags[CHECKPOINT] = now - self._saved_at > 60 * self.stage.checkpoint_minutes
        return flags

    def _signals(self) -> frozenset[str]:
        """Return what this rank is asked to stop by; not that the time is up, so that each start takes a step."""
        return frozenset(name for number, name in SIGNAL_FLAGS.items() if self._stop.signal == number)

    def _report_failures(self, batch: Batch, agreed: Agreed) -> None:
        if not agreed.failed:
            return
        failures = list(chain.from_iterable(self.ranks.gather(batch.failures)))
        for failure in failures:
            self.journal.write(
                "gone_clip" if failure.gone else "failed_clip", batch.step, path=failure.path, reason=failure.reason
            )
            if self.ranks.is_main and not failure.gone and failure.path not in self._reported:
                log.warning("step %d: %s: %s; other clips take its place", batch.step, failure.path, failure.reason)
                self._reported.add(failure.path)
        lost = next((failure for failure in failures if failure.gone), None)
        if lost is not None:
            self._give_up(f"{self.task.name}, step {batch.step}: {gone(lost.path, lost.reason)}")
        drawn, failed = self.counters.drawn + agreed.drawn, self.counters.failed + agreed.failed
        if failed > self.task.max_failed_share * max(drawn, FAIR_DRAWS):
            self._give_up(
                f"{self.task.name}, step {batch.step}: {failed} of {drawn} drawn clips could not be read, more than "
                f"data.max_failed_share {self.task.max_failed_share:g} (the last on this rank: {_last(batch)}); "
                "fix or remove the files, or raise the share"
            )

    def _is_finite(self, batch: Batch, agreed: Agreed, norms: Mapping[str, Tensor]) -> bool:
        steep = [event for event, norm in norms.items() if not math.isfinite(norm)]
        broken = [position for position, loss in enumerate(agreed.losses.tolist()) if not math.isfinite(loss)]
        if not broken and not steep:
            return True
        what = "loss" if broken else "gradient" if "train" in steep else "discriminator's gradient"
        windows = list(chain.from_iterable(self.ranks.gather(batch.windows)))
        seen = [windows[position] for position in broken or range(len(windows))]
        clips = [f"{self.task.source.clips[w.row].clip_id}[{w.start}:{w.start + w.length}]" for w in seen]
        text = f"{self.task.name}, step {batch.step}: the {what} is not finite on clips {', '.join(clips)}"
        if self.stage.non_finite == "stop":
            self.journal.write("non_finite", batch.step, what=what, clips=clips)
            self._give_up(
                f"{text}; the weights of step {batch.step - 1} are kept in {self.store.folder}; lower the learning "
                f"rate, or set stages.{self.task.name}.non_finite: skip and start again"
            )
        if self.ranks.is_main:
            log.warning("%s; the step is skipped", text)
        self.journal.write("skipped", batch.step, what=what, clips=clips)
        return False

    def _give_up(self, text: str) -> None:
        """Save the state before this step and end on all ranks; the first one says why."""
        self._keep()
        if self.ranks.is_main:
            raise UserError(text)
        raise SystemExit(2)

    def _records(
        self, batch: Batch, agreed: Agreed, norms: Mapping[str, Tensor], rates: Mapping[str, float]
    ) -> dict[str, dict[str, Any]]:
        """Return the lines of the log by their event."""
        steps = {event: {"grad_norm": float(norm), "lr": rates[event]} for event, norm in norms.items()}
        others = {event: {**agreed.adversarial, **own} for event, own in steps.items() if event != "train"}
        seconds = self._clock.read()
        spent = max(1e-9, sum(seconds.values()))
        frames = self.stage.global_batch * batch.data.shape[2]
        draws = self._draws(batch.step, self.positions)
        speed = {} if self._speed is None else self._speed.read(batch.data, batch.latents, batch.images, draws, spent)
        train = {
            **agreed.parts,
            **steps["train"],
            "frames": frames,
            **self.task.plan.noted(batch.step),
            "frames_per_s": frames / spent,
            **speed,
            **{f"{name}_s": seconds.get(name, 0.0) for name in ("data", "forward", "backward", "optimizer")},
            "data_share": seconds.get("data", 0.0) / spent,
            "memory_gb": peak_memory_gb(self.ranks.device),
        }
        return {"train": train, **others}

    def save(self, *, wait: bool = True) -> None:
        """Write a checkpoint of the state as it is; called by all ranks.

        Args:
            wait: until it is written; otherwise it is written beside the next steps.
        """
        began = time.monotonic()
        tensors = {name: value for part in self._kept for name, value in part.state().items()}
        if self.ranks.is_main or self.optimization.is_shared:
            values = {**asdict(self.counters), "log_bytes": self.journal.flush(), "world_size": self.ranks.world_size}
            self._writer.save(State(step=self.counters.step, tensors=tensors, values=values), wait=wait)
            self.ranks.reached(f"the checkpoint of step {self.counters.step}")
        self.ranks.barrier()
        self._saved_at = time.monotonic()
        waited = self._saved_at - began
        self._save_seconds = waited + self._writer.seconds
        self.journal.write("checkpoint", self.counters.step, seconds=waited)

    def _keep(self) -> None:
        """See to it that the state as it is lies on the disk; called by all ranks."""
        if self.ranks.broadcast(not self._writer.holds(self.counters.step)):
            self.save()

    def _resume(self) -> None:
        state = self.store.newest() if self.ranks.is_main else None
        step = self.ranks.broadcast(None if state is None else state.step)
        notes = {"steps": self.task.steps, "world_size": self.ranks.world_size, "global_batch": self.stage.global_batch}
        if step is None:
            self.journal.open()
            self.journal.write("start", 0, **notes, epochs=self._epochs(self.task.steps))
            return
        state = state or self.store.load(step)
        for part in self._kept:
            part.load(state.tensors)
        self.counters = Counters(**{name: state.values[name] for name in asdict(self.counters)})
        self.counters.starts += 1
        self.journal.open(state.values["log_bytes"], step)
        self.journal.write("resume", step, **notes)
        log.info("%s goes on after step %d, from %s", self.task.name, step, self.store.path(step))

    def _epochs(self, steps: int) -> float:
        return epochs_of(self.stage, steps, self.task.plan.num_clips)

    def _validate(self) -> int | None:
        """Validate where it is due after the steps taken so far; return the exit status where the training is to stop.

        A validation that is interrupted is taken when the training goes on.
        """
        step, ends = self.counters.step, (0, self.task.steps)
        if self.task.validator is None or (step % self.stage.validate_every and step not in ends):
            return None
        average, began = self.optimization.average, time.monotonic()
        try:
            with nullcontext() if average is None else average.applied():
                self.validated = self.task.validator.run(step in ends, self._signals)
        except Interrupted as interrupted:
            self._keep()
            return status_of(interrupted.flags)
        seconds = time.monotonic() - began
        seen = self.task.validator.seen()
        self.journal.write("valid", step, **self.validated, seconds=seconds, windows=seen)
        self.journal.pictures("valid: original and reconstruction", step, self.task.validator.shown)
        slow = slow_line(self.stage, seen["count"], seconds, self._step_seconds * self.stage.validate_every)
        if slow and step not in ends and slow_line.__name__ not in self._reported:
            self._reported.add(slow_line.__name__)
            log.info("%s: %s", self.task.name, slow)
        if self.validated:
            figures = ", ".join(f"{name} {value:.4g}" for name, value in self.validated.items())
            log.info("%s, step %d, held-out clips: %s", self.task.name, step, figures)
        return None


def _last(batch: Batch) -> str:
    return f"{batch.failures[-1].path}: {batch.failures[-1].reason}" if batch.failures else "none"
