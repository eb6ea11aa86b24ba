package ai.onnxruntime;

/** What the examples use of it. */
public interface OnnxValue extends AutoCloseable {
  @Override
  void close();
}
