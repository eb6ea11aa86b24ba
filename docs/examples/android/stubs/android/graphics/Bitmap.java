package android.graphics;

/** What the examples use of it. */
public final class Bitmap {
  public enum Config {
    ARGB_8888
  }

  public static Bitmap createBitmap(int[] colors, int width, int height, Config config) {
    throw new UnsupportedOperationException();
  }
}
