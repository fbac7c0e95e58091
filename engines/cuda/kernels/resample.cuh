// How OpenCV resizes 8-bit pictures (`cv::resize`, INTER_LINEAR), to the last bit: pixel centres, weights of 11 bits, and
// its own rounding. Within 1/255 would not do for YUV: a blue difference that is off by one is blue that is off by two.
// So a BGR picture is OpenCV's; one made of YUV is within 1/255, for the matrix after this is rounded in another order.
// No includes, so that NVRTC needs no folder; the double operations are named so that no compiler fuses them.

struct Tap {
    int first, second;                // the two neighbours on an axis
    int first_weight, second_weight;  // of 2048 together
};

static __device__ __forceinline__ int clamped(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

// `step` is source / target. Beyond the border OpenCV repeats the pixel, on rows with the weights as they are, on
// columns with all of the weight on one: together they round differently.
static __device__ __forceinline__ Tap tap(int position, double step, int size, bool is_column) {
    float centre = (float)__dadd_rn(__dmul_rn(position + 0.5, step), -0.5);
    int first = (int)floorf(centre);
    float fraction = centre - (float)first;
    if (is_column && (first < 0 || first >= size - 1)) fraction = 0.0f;
    Tap result;
    result.first = clamped(first, 0, size - 1);
    result.second = clamped(first + 1, 0, size - 1);
    result.first_weight = __float2int_rn((1.0f - fraction) * 2048.0f);
    result.second_weight = __float2int_rn(fraction * 2048.0f);
    return result;
}

// The value between four neighbours; `stride` is the number of bytes from a pixel to the next of the row.
static __device__ __forceinline__ int between(const unsigned char *plane, int pitch, int stride, Tap row, Tap column) {
    const unsigned char *above = plane + (size_t)row.first * pitch, *below = plane + (size_t)row.second * pitch;
    int left = column.first * stride, right = column.second * stride;
    int upper = above[left] * column.first_weight + above[right] * column.second_weight;
    int lower = below[left] * column.first_weight + below[right] * column.second_weight;
    return ((row.first_weight * (upper >> 4) >> 16) + (row.second_weight * (lower >> 4) >> 16) + 2) >> 2;
}

// The pixel of the input that this thread writes. Where it is padding it is written here; else `row` and `column` are
// its place in the resized picture, and it is returned.
static __device__ __forceinline__ unsigned char *content_pixel(
    unsigned char *target, int target_height, int target_width, int top, int left, int height, int width, int pad,
    int *row, int *column
) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= target_width || y >= target_height) return 0;
    unsigned char *pixel = target + ((size_t)y * target_width + x) * 3;
    *row = y - top, *column = x - left;
    if (*row >= 0 && *column >= 0 && *row < height && *column < width) return pixel;
    pixel[0] = pixel[1] = pixel[2] = (unsigned char)pad;
    return 0;
}
