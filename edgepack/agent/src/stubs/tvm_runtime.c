/* A stand-in for libtvm_runtime.so at link time. The agent calls nothing of it by name: loading it
 * registers the functions that the agent looks up through libtvm_ffi.so. */
extern const int edgepack_stub_of_tvm_runtime;
const int edgepack_stub_of_tvm_runtime = 1;
