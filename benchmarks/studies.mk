# The studies behind docs/calibration.md and docs/parity.md. They need MNIST:
#   make -f benchmarks/studies.mk calibration VAE_EDGE_DATA_DIR=DIR

BIN ?= .venv/bin
OUT := build/studies
SOURCES := samples digits digits+samples mnist
SEEDS := 0 1 2
QUANTIZED := --precision dynamic --precision int8
EXPORT := $(BIN)/vae-edge export --format tflite --format onnx --no-benchmark --replace

.PHONY: calibration spread
.SECONDARY:

# The shipped model, its ranges from each source, judged on the 10,000 test images of MNIST.
calibration: $(SOURCES:%=$(OUT)/calibration/%)
	$(BIN)/python -m benchmarks.quality $^

$(OUT)/calibration/%:
	$(EXPORT) --precision int8 --calibration $* --out $@ --keep-failing

# Models of several seeds, latent sizes and data sets: the worst parity figures over all of them.
spread: $(SEEDS:%=$(OUT)/spread/mnist-seed%) $(OUT)/spread/mnist-brief \
		$(OUT)/spread/mnist-latent8 $(OUT)/spread/digits
	$(EXPORT) $(QUANTIZED) --precision float32 --precision float16 --calibration digits+samples \
		--out $(OUT)/spread/shipped --keep-failing
	$(BIN)/python -m benchmarks.parity_spread $^ $(OUT)/spread/shipped

$(OUT)/spread/%: $(OUT)/train/%/model.keras
	$(EXPORT) $< $(QUANTIZED) --precision float32 --precision float16 --out $@ --keep-failing

$(OUT)/train/mnist-seed%/model.keras:
	$(BIN)/vae-edge train --limit 20000 --epochs 4 --learning-rate 0.002 --seed $* --out $(@D)

# As quickstart trains it.
$(OUT)/train/mnist-brief/model.keras:
	$(BIN)/vae-edge train --limit 20000 --epochs 4 --batch-size 64 --learning-rate 0.003 --out $(@D)

$(OUT)/train/mnist-latent8/model.keras:
	$(BIN)/vae-edge train --limit 20000 --epochs 4 --learning-rate 0.002 --latent-dim 8 --out $(@D)

$(OUT)/train/digits/model.keras:
	$(BIN)/vae-edge train --dataset digits --epochs 40 --learning-rate 0.002 --out $(@D)
