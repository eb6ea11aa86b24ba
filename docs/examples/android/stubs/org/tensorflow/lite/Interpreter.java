package org.tensorflow.lite;

import java.nio.ByteBuffer;
import java.util.Map;

/** What the examples use of it, from tensorflow/lite/java's Interpreter.java. */
public final class Interpreter implements AutoCloseable {
  public static class Options {
    public Options setNumThreads(int numThreads) {
      throw new UnsupportedOperationException();
    }

    public Options setUseXNNPACK(boolean useXNNPACK) {
      throw new UnsupportedOperationException();
    }
  }

  public Interpreter(ByteBuffer byteBuffer, Options options) {}

  public void runSignature(
      Map<String, Object> inputs, Map<String, Object> outputs, String signatureKey) {
    throw new UnsupportedOperationException();
  }

  @Override
  public void close() {}
}
