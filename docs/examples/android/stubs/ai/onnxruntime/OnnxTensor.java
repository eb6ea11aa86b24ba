package ai.onnxruntime;

import java.nio.FloatBuffer;

/** What the examples use of it. */
public class OnnxTensor extends OnnxTensorLike {
  public static OnnxTensor createTensor(OrtEnvironment env, FloatBuffer data, long[] shape)
      throws OrtException {
    throw new UnsupportedOperationException();
  }

  public FloatBuffer getFloatBuffer() {
    throw new UnsupportedOperationException();
  }

  @Override
  public void close() {}
}
