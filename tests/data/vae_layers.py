"""Layers and models of a user's own, as found in tutorials: what `--import` is given in tests.

Models of these are also kept in `tests/data/keras_releases`, written by other releases of Keras.
"""

import keras
from keras import layers, ops

register = keras.saving.register_keras_serializable(package="own")


@register
class Sampling(layers.Layer):
    """z from its mean and log-variance, as in Keras's own example."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        mean, log_var = inputs
        epsilon = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * epsilon


@register
class SpreadFirst(Sampling):
    """Takes its inputs the other way round."""

    def call(self, inputs):
        return super().call([inputs[1], inputs[0]])


@register
class FixedNoise(layers.Layer):
    """Draws the same numbers each time, so that two calls do not differ."""

    def call(self, inputs):
        mean, log_var = inputs
        return mean + ops.exp(0.5 * log_var) * keras.random.normal(ops.shape(mean), seed=42)


@register
class StdSampling(Sampling):
    """z from its mean and standard deviation."""

    def call(self, inputs):
        return super().call([inputs[0], 2.0 * ops.log(ops.abs(inputs[1]))])


@register
class LogStdSampling(Sampling):
    """z from its mean and the logarithm of its standard deviation."""

    def call(self, inputs):
        return super().call([inputs[0], 2.0 * inputs[1]])


@register
class VarianceSampling(Sampling):
    """z from its mean and variance."""

    def call(self, inputs):
        return super().call([inputs[0], ops.log(ops.abs(inputs[1]))])


@register
class SoftplusSampling(Sampling):
    """z from its mean and what the softplus of is its standard deviation."""

    def call(self, inputs):
        return super().call([inputs[0], 2.0 * ops.log(ops.softplus(inputs[1]))])


@register
class JoinedSampling(Sampling):
    """z from both in one tensor."""

    def call(self, inputs):
        return super().call(ops.split(inputs, 2, axis=-1))


@register
class WarmSampling(Sampling):
    """z with twice the spread that its log-variance says."""

    def call(self, inputs):
        return super().call([inputs[0], inputs[1] + 2.0 * ops.log(2.0)])


@register
class TrainedSampling(Sampling):
    """z in training, and its mean otherwise."""

    def call(self, inputs, training=None):
        return super().call(inputs) if training else inputs[0]


@register
class AddKL(layers.Layer):
    """Gives what it takes, and adds to the loss."""

    def call(self, inputs):
        mean, log_var = inputs
        terms = ops.exp(log_var) - log_var - 1 + ops.square(mean)
        self.add_loss(0.5 * ops.mean(ops.sum(terms, axis=-1)))
        return mean, log_var


@register
class Noise(layers.Layer):
    """Standard normal numbers of its input's shape."""

    def call(self, inputs):
        return keras.random.normal(ops.shape(inputs))


@register
class Residual(layers.Layer):
    """A block of other layers."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units, activation="relu")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, inputs):
        return inputs + self.dense(inputs)


@register
class Encoder(layers.Layer):
    """An encoder that samples z itself, as in Keras's guide to subclassing."""

    def __init__(self, latent_dim=2, **kwargs):
        super().__init__(**kwargs)
        self.latent_dim = latent_dim
        self.flatten = layers.Flatten()
        self.dense_proj = layers.Dense(6, activation="relu")
        self.dense_mean = layers.Dense(latent_dim)
        self.dense_log_var = layers.Dense(latent_dim)
        self.sampling = Sampling()

    def call(self, inputs):
        x = self.dense_proj(self.flatten(inputs))
        z_mean, z_log_var = self.dense_mean(x), self.dense_log_var(x)
        return z_mean, z_log_var, self.sampling((z_mean, z_log_var))


@register
class Decoder(layers.Layer):
    """The decoder to it."""

    def __init__(self, side=4, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(side * side, activation="sigmoid")
        self.reshape = layers.Reshape((side, side, 1))

    def call(self, inputs):
        return self.reshape(self.dense(inputs))


@register
class GuideVAE(keras.Model):
    """Both, in a model that is called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.encoder = Encoder()
        self.decoder = Decoder()

    def call(self, inputs):
        z_mean, z_log_var, z = self.encoder(inputs)
        self.add_loss(-0.5 * ops.mean(z_log_var - ops.square(z_mean) - ops.exp(z_log_var) + 1))
        return self.decoder(z)


@register
class InlineVAE(GuideVAE):
    """Samples in its own call, from an encoder that gives a bare list."""

    def __init__(self, **kwargs):
        keras.Model.__init__(self, **kwargs)
        self.body = keras.Sequential([layers.Flatten(), layers.Dense(6, activation="tanh")])
        self.first, self.second = layers.Dense(2, name="first"), layers.Dense(2, name="second")
        self.head = keras.Sequential(
            [layers.Dense(16, activation="sigmoid"), layers.Reshape((4, 4, 1))]
        )

    def call(self, inputs):
        x = self.body(inputs)
        log_std, mean = self.first(x), self.second(x)
        return self.head(mean + ops.exp(log_std) * keras.random.normal(ops.shape(mean)))


@register
class ExampleVAE(keras.Model):
    """Keras's own example: halves are given to it, and only its training step uses them."""

    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def call(self, inputs):
        return self.decoder(self.encoder(inputs)[2])

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
        }

    @classmethod
    def from_config(cls, config):
        halves = [
            keras.saving.deserialize_keras_object(config.pop(half))
            for half in ("encoder", "decoder")
        ]
        return cls(*halves, **config)
