package ai.onnxruntime;

import java.util.Map;
import java.util.Optional;

/** What the examples use of it. */
public class OrtSession implements AutoCloseable {
  public static class SessionOptions implements AutoCloseable {
    public void setIntraOpNumThreads(int numThreads) throws OrtException {}

    @Override
    public void close() {}
  }

  public static class Result implements AutoCloseable {
    public Optional<OnnxValue> get(String key) {
      throw new UnsupportedOperationException();
    }

    public OnnxValue get(int index) {
      throw new UnsupportedOperationException();
    }

    @Override
    public void close() {}
  }

  public Result run(Map<String, ? extends OnnxTensorLike> inputs) throws OrtException {
    throw new UnsupportedOperationException();
  }

  @Override
  public void close() throws OrtException {}
}
