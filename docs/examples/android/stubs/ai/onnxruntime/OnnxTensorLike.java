package ai.onnxruntime;

/** What the examples use of it. */
public abstract class OnnxTensorLike implements OnnxValue {}
