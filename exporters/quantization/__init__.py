"""How a graph is quantized: ranges, weights, and what stays in float."""
