"""Host side: from a Keras VAE to the artifacts of a bundle."""
