package ai.onnxruntime;

/** What the examples use of it. */
public final class OrtEnvironment implements AutoCloseable {
  public static OrtEnvironment getEnvironment() {
    throw new UnsupportedOperationException();
  }

  public OrtSession createSession(byte[] modelArray, OrtSession.SessionOptions options)
      throws OrtException {
    throw new UnsupportedOperationException();
  }

  @Override
  public void close() {}
}
