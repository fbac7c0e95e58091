// A libcuda.so.1 of host memory, for what really loads one: the probe's ctypes, and cuda-python itself. Everything is
// done at once. FAKE_CUDA_DEVICES: how many GPUs; FAKE_CUDA_FAILS: a function that fails, with FAKE_CUDA_CODE.
// Addresses and handles are checked, so that an argument that arrives wrong is an error and not a lucky guess.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <vector>
#include <functional>
#include <string>
#include <dlfcn.h>

static int number(const char *name, int otherwise) { const char *text = getenv(name); return text ? atoi(text) : otherwise; }
static int failing(const char *function) {
    const char *name = getenv("FAKE_CUDA_FAILS");
    return name && !strcmp(name, function) ? number("FAKE_CUDA_CODE", 999) : 0;
}
#define FAIL if (int code = failing(__func__)) return code;
#define KNOWN(things, thing) FAIL if (!things.count((void *)(thing))) return 400;

typedef unsigned long long Address;
typedef void *Handle;
static std::set<void *> memory, pinned, streams, events, modules, graphs;
static thread_local Handle current;
static char context[1];
static std::vector<std::function<void()>> recorded;
static bool recording;
static int do_it(std::function<void()> work) { if (recording) recorded.push_back(work); else work(); return 0; }
static Handle made(std::set<void *> &things) { Handle thing = malloc(16); things.insert(thing); return thing; }
static int gone(std::set<void *> &things, void *thing) { if (!things.erase(thing)) return 400; free(thing); return 0; }

extern "C" {
int cuInit(unsigned) { FAIL return 0; }
int cuDriverGetVersion(int *version) { FAIL *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { FAIL *count = number("FAKE_CUDA_DEVICES", 2); return 0; }
int cuDeviceGet(int *device, int index) { FAIL *device = 100 + index; return index < number("FAKE_CUDA_DEVICES", 2) ? 0 : 101; }
int cuDeviceGetName(char *name, int size, int device) { FAIL snprintf(name, size, "Fake RTX %d", device - 100); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { FAIL *value = attribute == 75 ? 8 : device - 94; return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int) { FAIL *bytes = (size_t)12 << 30; return 0; }
int cuGetErrorName(int code, const char **name) { *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_UNKNOWN"; return 0; }
int cuGetErrorString(int code, const char **text) { *text = code == 100 ? "no CUDA-capable device is detected" : "unknown error"; return 0; }

int cuDevicePrimaryCtxRetain(Handle *out, int device) { FAIL *out = context; return device >= 100 ? 0 : 101; }
int cuDevicePrimaryCtxRelease_v2(int device) { FAIL return device >= 100 ? 0 : 101; }
int cuCtxGetCurrent(Handle *out) { FAIL *out = current; return 0; }
int cuCtxSetCurrent(Handle given) { FAIL current = given; return given == context || !given ? 0 : 201; }

int cuMemAlloc_v2(Address *out, size_t size) { FAIL if (size > (1u << 30)) return 2; void *p = malloc(size); memory.insert(p); *out = (Address)p; return 0; }
int cuMemFree_v2(Address address) { FAIL return gone(memory, (void *)address); }
int cuMemHostAlloc(void **out, size_t size, unsigned flags) { FAIL if (flags != 1) return 1; *out = malloc(size); pinned.insert(*out); return 0; }
int cuMemFreeHost(void *address) { FAIL return gone(pinned, address); }
int cuMemGetInfo_v2(size_t *free_, size_t *total) { FAIL *free_ = 1u << 30; *total = 2u << 30; return 0; }
int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t size, Handle stream) { KNOWN(streams, stream) return do_it([=] { memcpy((void *)to, from, size); }); }
int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t size, Handle stream) { KNOWN(streams, stream) return do_it([=] { memcpy(to, (void *)from, size); }); }
int cuMemsetD8Async(Address to, unsigned char value, size_t size, Handle stream) { KNOWN(streams, stream) return do_it([=] { memset((void *)to, value, size); }); }

int cuStreamCreate(Handle *out, unsigned flags) { FAIL if (current != context) return 201; *out = made(streams); return flags == 1 ? 0 : 1; }
int cuStreamDestroy_v2(Handle stream) { FAIL return gone(streams, stream); }
int cuStreamSynchronize(Handle stream) { KNOWN(streams, stream) return 0; }
int cuStreamBeginCapture_v2(Handle stream, int mode) { KNOWN(streams, stream) recording = true; recorded.clear(); return mode == 1 ? 0 : 1; }
int cuStreamEndCapture(Handle stream, Handle *out) { KNOWN(streams, stream) recording = false; *out = made(graphs); return 0; }
int cuGraphInstantiateWithFlags(Handle *out, Handle graph, unsigned long long flags) { KNOWN(graphs, graph) *out = made(graphs); return flags ? 1 : 0; }
int cuGraphLaunch(Handle graph, Handle stream) { KNOWN(graphs, graph) KNOWN(streams, stream) for (auto &work : recorded) work(); return 0; }
int cuGraphDestroy(Handle graph) { FAIL return gone(graphs, graph); }
int cuGraphExecDestroy(Handle graph) { FAIL return gone(graphs, graph); }

int cuModuleLoadData(Handle *out, const void *image) { FAIL if (memcmp(image, "\177ELF", 4)) return 200; *out = made(modules); return 0; }
int cuModuleGetFunction(Handle *out, Handle module, const char *name) { KNOWN(modules, module) *out = module; return strcmp(name, "add") ? 500 : 0; }
int cuModuleUnload(Handle module) { FAIL return gone(modules, module); }
// The one kernel it knows: add(unsigned char *bytes, int count, float times, unsigned char more).
int cuLaunchKernel(Handle function, unsigned gx, unsigned, unsigned, unsigned bx, unsigned, unsigned, unsigned, Handle stream, void **arguments, void **) {
    KNOWN(modules, function) KNOWN(streams, stream)
    unsigned char *bytes = *(unsigned char **)arguments[0];
    int count = *(int *)arguments[1];
    float times = *(float *)arguments[2];
    unsigned char more = *(unsigned char *)arguments[3];
    if ((unsigned)count > gx * bx) return 1;
    return do_it([=] { for (int i = 0; i < count; i++) bytes[i] = (unsigned char)(bytes[i] * times + more); });
}

int cuEventCreate(Handle *out, unsigned flags) { FAIL *out = made(events); return flags; }
int cuEventRecord(Handle event, Handle stream) { KNOWN(events, event) KNOWN(streams, stream) return 0; }
int cuEventElapsedTime(float *out, Handle first, Handle second) { KNOWN(events, first) KNOWN(events, second) *out = 1.5f; return 0; }
int cuEventElapsedTime_v2(float *out, Handle first, Handle second) { return cuEventElapsedTime(out, first, second); }
int cuEventDestroy_v2(Handle event) { FAIL return gone(events, event); }
}

// How cuda-python finds the functions: by the plain name, of which the newest version is meant.
extern "C" int cuGetProcAddress_v2(const char *name, void **out, int, unsigned long long, int *status) {
    Dl_info own;
    dladdr((void *)&cuInit, &own);
    void *library = dlopen(own.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    *out = nullptr;
    for (const char *version : {"_v2", ""})
        if (!*out) *out = dlsym(library, (std::string(name) + version).c_str());
    if (status) *status = *out ? 0 : 1;
    return *out ? 0 : 500;
}
