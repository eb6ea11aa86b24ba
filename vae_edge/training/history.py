"""What a run has been through, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["EpochRecord", "History"]


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch. All losses are nats per image; `loss` is reconstruction + beta * kl.

    Attributes:
        epoch: counted from 1.
        learning_rate: at the end of the epoch.
        loss, reconstruction, kl: means over the epoch's training images, while weights changed.
        validation_loss, validation_reconstruction, validation_kl: after the epoch.
        seconds: of wall time; two records that differ only in it are equal.
    """

    epoch: int
    learning_rate: float
    loss: float
    reconstruction: float
    kl: float
    validation_loss: float
    validation_reconstruction: float
    validation_kl: float
    seconds: float = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class History:
    """Finished epochs, first to last."""

    epochs: tuple[EpochRecord, ...] = ()

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the lowest validation loss, the first of equals; None before any."""
        return min(self.epochs, key=lambda record: record.validation_loss, default=None)

    def is_out_of_patience(self, patience: int) -> bool:
        """Whether the last `patience` epochs, all of them, brought no better validation loss."""
        return bool(patience and self.best and len(self) - self.best.epoch >= patience)
