// An H x W x 3 BGR picture into a model's input: resized into its place, the rest is padding. One thread a pixel.
#include "resample.cuh"

extern "C" __global__ void letterbox_bgr(
    const unsigned char *source, int pitch, int source_height, int source_width,
    unsigned char *target, int target_height, int target_width,
    int top, int left, int height, int width, int pad,
    double row_step, double column_step
) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= target_width || y >= target_height) return;
    unsigned char *pixel = target + ((size_t)y * target_width + x) * 3;
    if (x < left || y < top || x >= left + width || y >= top + height) {
        pixel[0] = pixel[1] = pixel[2] = (unsigned char)pad;
        return;
    }
    Tap row = tap(y - top, row_step, source_height, false), column = tap(x - left, column_step, source_width, true);
    for (int channel = 0; channel < 3; channel++)
        pixel[channel] = (unsigned char)between(source + channel, pitch, 3, row, column);
}
