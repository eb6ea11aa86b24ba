package ai.onnxruntime;

/** From ONNX Runtime's java/src/main/java/ai/onnxruntime, as the other stubs beside it. */
public class OrtException extends Exception {}
