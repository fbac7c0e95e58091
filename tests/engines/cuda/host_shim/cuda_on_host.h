// Enough of CUDA for g++ to compile simple kernels, and to run them on the host: one thread after another.
// No shared memory, no __syncthreads.
#pragma once
#include <cmath>
#include <cstddef>

#define __global__
#define __device__
#define __forceinline__ inline

struct Place { unsigned x, y, z; };
static thread_local Place blockIdx, blockDim, threadIdx, gridDim;

static inline int __float2int_rn(float value) { return (int)std::lrintf(value); }
static inline double __dmul_rn(double a, double b) { volatile double product = a * b; return product; }
static inline double __dadd_rn(double a, double b) { volatile double sum = a + b; return sum; }

// Host<kernel>::run(grid, block, arguments...) runs every thread of every block.
template <auto kernel> struct Host;
template <typename... Arguments, void (*kernel)(Arguments...)> struct Host<kernel> {
    static void run(const unsigned *grid, const unsigned *block, Arguments... arguments) {
        gridDim = {grid[0], grid[1], grid[2]};
        blockDim = {block[0], block[1], block[2]};
        for (unsigned z = 0; z < grid[2]; z++) for (unsigned y = 0; y < grid[1]; y++) for (unsigned x = 0; x < grid[0]; x++) {
            blockIdx = {x, y, z};
            for (unsigned k = 0; k < block[2]; k++) for (unsigned j = 0; j < block[1]; j++) for (unsigned i = 0; i < block[0]; i++) {
                threadIdx = {i, j, k};
                kernel(arguments...);
            }
        }
    }
};
