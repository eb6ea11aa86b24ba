"""The parity check as a pytest suite: `pytest --pyargs vae_edge.parity_suite --bundle=DIR`.

One test per artifact and check, e.g. `test_parity[encoder.int8.tflite-z_mean.rmse]`. The module
`pytest_vae_edge` has the options, and imports nothing of this package unless it is asked for.
"""
