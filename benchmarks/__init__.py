"""Measures a bundle's artifacts, and the Keras model they came from, on the machine at hand.

    timer        how long one call takes
    statistics   what a row of samples says, and how sure that is
    environment  the machine, before and after
    fitness      why the machine's figures may be wrong, and what to do
    plan         which processes measure what
    protocol     what parent and worker processes say to each other
    session      one format and precision, or the Keras model, opened and ready to be timed
    worker       a process around a session
    process      the parent's handle on a worker
    latency      the suite: all workers, interleaved in rounds
    summary      from samples to candidates with statistics and ratios
    reference    which Keras model to measure against
    report       the result, as JSON and back

Needs numpy and one runtime. TensorFlow is imported only in the worker that measures the Keras
model.
"""
