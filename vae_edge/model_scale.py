"""How large a model is in what its limits count, so that limits in nats fit models of all sizes.

Nats are summed over pixels or latents, so that a larger model has more of them. The limits in
`vae_edge.tolerances` were found on models of at most 8 latents that lose up to 230 nats per image,
10 of them to the KL term (docs/parity.md); a model of more may lose as large a share.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ELBO_METRICS", "USUAL", "ModelScale"]

ELBO_METRICS = ("loss_change_nats", "kl_term_change_nats", "elbo_change_nats")
_USUAL_LOSS_NATS, _USUAL_KL_NATS, _USUAL_LATENTS = 230.0, 10.0, 8


@dataclass(frozen=True, kw_only=True)
class ModelScale:
    """What one image costs the reference model.

    Attributes:
        latents: size of z.
        kl_nats: mean KL term.
        loss_nats: mean reconstruction loss.
        gaussian_values: of a Gaussian likelihood the values of a reconstruction, times the square
            of their span; 0 of Bernoulli pixels, whose nats have no unit.
    """

    latents: int = _USUAL_LATENTS
    kl_nats: float = _USUAL_KL_NATS
    loss_nats: float = _USUAL_LOSS_NATS
    gaussian_values: float = 0.0

    def allowed(self, metric: str, limit: float, rmse: float) -> float:
        """Give the limit that fits this model, of one on a figure in nats; others stay.

        Of a Gaussian, whose nats depend on the unit of its values, also what noise within the limit
        on the error costs, where that is more: count / 2 * noise^2.

        Args:
            metric: its name.
            limit: of the built-in table.
            rmse: limit on the error of reconstructions, in shares of their span.
        """
        if metric == "kl_term_change_nats":
            return limit * max(1.0, self.kl_nats / _USUAL_KL_NATS)
        if metric in ("mean_kl_nats", "max_kl_nats"):
            return limit * max(1.0, self.latents / _USUAL_LATENTS)
        if metric not in ELBO_METRICS:
            return limit
        share = limit * max(1.0, self.loss_nats / _USUAL_LOSS_NATS)
        return max(share, 0.5 * self.gaussian_values * rmse**2)


USUAL = ModelScale()
"""Of the models that the limits were found on."""
