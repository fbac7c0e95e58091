// Planes of YUV 4:2:0 into a model's input: each plane is resized by itself and rounded to 8 bits, then the small picture
// is converted to BGR by a 3 x 4 matrix, as the pipeline does it on the CPU. One thread a pixel.
#include "resample.cuh"

static __device__ __forceinline__ unsigned char rounded(float value) {
    return (unsigned char)clamped(__float2int_rn(value), 0, 255);
}

extern "C" __global__ void letterbox_yuv(
    const unsigned char *luma, const unsigned char *blue_difference, const unsigned char *red_difference,
    int luma_pitch, int blue_pitch, int red_pitch, int source_height, int source_width,
    unsigned char *target, int target_height, int target_width,
    int top, int left, int height, int width, int pad,
    double row_step, double column_step, double chroma_row_step, double chroma_column_step,
    float blue_y, float blue_u, float blue_v, float blue_shift,
    float green_y, float green_u, float green_v, float green_shift,
    float red_y, float red_u, float red_v, float red_shift
) {
    int y, x;
    unsigned char *pixel =
        content_pixel(target, target_height, target_width, top, left, height, width, pad, &y, &x);
    if (!pixel) return;
    Tap row = tap(y, row_step, source_height, false), column = tap(x, column_step, source_width, true);
    float l = (float)between(luma, luma_pitch, 1, row, column);
    int chroma_height = (source_height + 1) / 2, chroma_width = (source_width + 1) / 2;
    row = tap(y, chroma_row_step, chroma_height, false);
    column = tap(x, chroma_column_step, chroma_width, true);
    float u = (float)between(blue_difference, blue_pitch, 1, row, column);
    float v = (float)between(red_difference, red_pitch, 1, row, column);
    pixel[0] = rounded(blue_y * l + blue_u * u + blue_v * v + blue_shift);
    pixel[1] = rounded(green_y * l + green_u * u + green_v * v + green_shift);
    pixel[2] = rounded(red_y * l + red_u * u + red_v * v + red_shift);
}
