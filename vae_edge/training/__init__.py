"""Host side: data sets, the model, and a training run that can be interrupted and resumed."""
