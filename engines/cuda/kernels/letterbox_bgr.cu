// An H x W x 3 BGR picture into a model's input: resized into its place, the rest is padding. One thread a pixel.
#include "resample.cuh"

extern "C" __global__ void letterbox_bgr(
    const unsigned char *source, int pitch, int source_height, int source_width,
    unsigned char *target, int target_height, int target_width,
    int top, int left, int height, int width, int pad,
    double row_step, double column_step
) {
    int y, x;
    unsigned char *pixel =
        content_pixel(target, target_height, target_width, top, left, height, width, pad, &y, &x);
    if (!pixel) return;
    Tap row = tap(y, row_step, source_height, false), column = tap(x, column_step, source_width, true);
    for (int channel = 0; channel < 3; channel++)
        pixel[channel] = (unsigned char)between(source + channel, pitch, 3, row, column);
}
