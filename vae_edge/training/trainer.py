"""Epochs of training, repeatable bit for bit from any checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from vae_edge.errors import TrainingError, UsageError
from vae_edge.terms import FloatArray
from vae_edge.training.checkpoint import Arrays, Checkpoint, Progress
from vae_edge.training.dataset import Dataset
from vae_edge.training.evaluation import evaluate_elbo
from vae_edge.training.history import EpochRecord, History
from vae_edge.training.model import VAE
from vae_edge.training.settings import TrainSettings, Validation

__all__ = ["BatchProgress", "Trainer"]

# Where the learning rate's half cosine ends, as a part of where it begins.
_FINAL_RATE = 0.01


@dataclass(frozen=True, kw_only=True)
class BatchProgress:
    """Where a run stands; losses are means over the epoch so far, in nats per image."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    reconstruction: float
    kl: float


class Trainer:
    """A model in training.

    Repeatable because nothing random outlives an epoch except the model's noise generator, which
    is part of the checkpoint: the initial weights come from the seed, and the order of the images
    from seed and epoch.

    Attributes:
        model: the VAE, with the weights of the last finished epoch.
        history: of the finished epochs.
    """

    def __init__(self, settings: TrainSettings, dataset: Dataset) -> None:
        """Build the model and choose the images.

        Raises:
            UsageError: the data set's images do not have the settings' shape.
            TrainingError: too few images to train on.
        """
        if dataset.image_shape != settings.image_shape:
            raise UsageError(
                f"settings are for images of shape {settings.image_shape}, but data set "
                f"'{dataset.name}' has {dataset.image_shape}. Set image_shape to the data set's."
            )
        _make_gpu_repeatable()
        self._settings = settings
        self._fingerprint = dataset.fingerprint()
        self._images = dataset.train_images
        self._train, self._validation = _choose(settings, dataset)
        self._batch = min(settings.batch_size, len(self._train))
        # A last, smaller batch is left out: other images fall into it each epoch.
        self._batches = len(self._train) // self._batch
        self.model = VAE(settings.architecture, beta=settings.beta, seed=settings.seed)
        rate = keras.optimizers.schedules.CosineDecay(
            settings.learning_rate, settings.epochs * self._batches, alpha=_FINAL_RATE
        )
        # Without XLA, which takes longer to compile than it saves here.
        self.model.compile(optimizer=keras.optimizers.Adam(rate), jit_compile=False)
        self.model.optimizer.build(self.model.trainable_variables)
        self.history = History()
        self._best_weights = _values(self.model.weights)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where the checkpoint was taken.

        Raises:
            TrainingError: it was taken on other images.
        """
        if checkpoint.progress.fingerprint != self._fingerprint:
            raise TrainingError(
                f"data set '{self._settings.dataset}' holds other images than when this run began, "
                "so going on would not give the same model. Restore the data set, or train anew "
                "with another --out."
            )
        _assign(self.model.weights, checkpoint.weights)
        _assign(self.model.optimizer.variables, checkpoint.optimizer)
        _assign([self.model.seed_generator.state], checkpoint.noise)
        self._best_weights = checkpoint.best_weights
        self.history = checkpoint.progress.history

    def checkpoint(self) -> Checkpoint:
        """Take the state after the last finished epoch."""
        return Checkpoint(
            progress=Progress(fingerprint=self._fingerprint, history=self.history),
            weights=_values(self.model.weights),
            optimizer=_values(self.model.optimizer.variables),
            noise=_values([self.model.seed_generator.state]),
            best_weights=self._best_weights,
        )

    def best_model(self) -> VAE:
        """Give a model with the weights of the best epoch, and no optimizer."""
        model = VAE(self._settings.architecture, beta=self._settings.beta, seed=self._settings.seed)
        _assign(model.weights, self._best_weights)
        return model

    def run_epoch(self, on_batch: Callable[[BatchProgress], None] | None = None) -> EpochRecord:
        """Train one epoch, validate, and add it to the history.

        Raises:
            TrainingError: a loss is not finite.
        """
        began, epoch = time.perf_counter(), len(self.history) + 1
        sums = dict.fromkeys(("loss", "reconstruction", "kl"), 0.0)
        means = sums
        for batch, images in enumerate(self._shuffled(epoch), start=1):
            # Some versions of Keras do this in train_on_batch, others go on adding up.
            self.model.reset_metrics()
            result = self.model.train_on_batch(images, return_dict=True)
            sums = {name: total + float(result[name]) for name, total in sums.items()}
            means = {name: total / batch for name, total in sums.items()}
            self._check_finite(means["loss"], f"epoch {epoch}, batch {batch} of {self._batches}")
            if on_batch:
                on_batch(
                    BatchProgress(
                        epoch=epoch,
                        epochs=self._settings.epochs,
                        batch=batch,
                        batches=self._batches,
                        **means,
                    )
                )
        elbo = evaluate_elbo(self.model, self._validation, seed=self._settings.seed)
        validation_loss = elbo.reconstruction + self._settings.beta * elbo.kl
        self._check_finite(validation_loss, f"epoch {epoch}, validation")
        record = EpochRecord(
            epoch=epoch,
            learning_rate=float(self.model.optimizer.learning_rate),
            validation_loss=validation_loss,
            validation_reconstruction=elbo.reconstruction,
            validation_kl=elbo.kl,
            seconds=round(time.perf_counter() - began, 3),
            **means,
        )
        self.history = History(epochs=(*self.history.epochs, record))
        if self.history.best is record:
            self._best_weights = _values(self.model.weights)
        return record

    def _shuffled(self, epoch: int) -> Iterator[FloatArray]:
        rng = np.random.default_rng([self._settings.seed, epoch])
        order = rng.permutation(self._train)
        for start in range(0, self._batches * self._batch, self._batch):
            yield self._images[order[start : start + self._batch]]

    def _check_finite(self, loss: float, where: str) -> None:
        if not math.isfinite(loss):
            done = len(self.history)
            kept = f"The checkpoint of epoch {done} is kept." if done else "No epoch was finished."
            raise TrainingError(
                f"the loss became {loss} in {where}: the run has diverged. {kept} Train anew with "
                f"a lower --learning-rate (now {self._settings.learning_rate:g}) or a lower --beta "
                f"(now {self._settings.beta:g})."
            )


def _choose(settings: TrainSettings, dataset: Dataset) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Choose the indices of the images to train on, and the images to validate on."""
    # Epochs count from 1, so this order is none of theirs.
    order = np.random.default_rng([settings.seed, 0]).permutation(len(dataset.train_images))
    order = order[: settings.limit]
    if settings.validation is Validation.TEST:
        return np.sort(order), dataset.test_images
    held = max(1, round(settings.validation_fraction * len(order)))
    if held >= len(order):
        raise TrainingError(
            f"data set '{dataset.name}' leaves no image to train on: of {len(order)}, {held} are "
            "held out for validation. Use a larger data set or a higher --limit."
        )
    return np.sort(order[held:]), dataset.train_images[np.sort(order[:held])]


def _make_gpu_repeatable() -> None:
    """Choose repeatable kernels where TensorFlow has a choice; on a CPU they already are."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()


def _values(variables: list[keras.Variable]) -> Arrays:
    # A copy, as the array may be a view of memory that the next step writes to.
    return tuple(np.array(keras.ops.convert_to_numpy(variable)) for variable in variables)


def _assign(variables: list[keras.Variable], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
