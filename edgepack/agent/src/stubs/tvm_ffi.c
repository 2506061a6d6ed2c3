/* A stand-in for libtvm_ffi.so at link time: names only. The board's loader finds the real one. */
#define STUB(name)  \
    void name(void) \
    {               \
    }

STUB(TVMFFIErrorMoveFromRaised)
STUB(TVMFFIFunctionCall)
STUB(TVMFFIFunctionGetGlobal)
STUB(TVMFFIGetVersion)
STUB(TVMFFIObjectDecRef)
