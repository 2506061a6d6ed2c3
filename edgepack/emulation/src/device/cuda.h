/* Stands in for CUDA when TVM's CUDA source is compiled as C++ by clang, without a C++ standard library.
 *
 * It takes the place of the source's own `#include`s. Macros that choose the branch for the GPU are defined here:
 * __CUDA_ARCH__ (unless the build defines it), __CUDACC_RTC__ (the source then includes nothing of the host and only
 * declares `__dp4a`), __CUDACC_VER_MAJOR__ 13. What is not declared here does not compile, by design.
 *
 * Compiler options that the semantics rest on:
 *   -ffloat16-excess-precision=none   (behind -Xclang for zig) every half operation is rounded to half
 *   -fno-strict-aliasing -fwrapv      the source puns types and wraps integers, as on the GPU
 *   -fno-strict-float-cast-overflow   float to integer saturates and NaN becomes 0, as PTX's cvt does
 *   -ffp-contract=off                 no result depends on the CPU's having FMA
 */
#ifndef EDGEPACK_EMULATION_DEVICE_CUDA_H
#define EDGEPACK_EMULATION_DEVICE_CUDA_H

#include "language.h"

#include "vectors.h"

#include "integers.h"

#include "mathematics.h"

#include "fastmath.h"

#include "half.h"

#include "half_math.h"

#include "bfloat16.h"

#include "warp.h"

#include "atomics.h"

#include "wmma.h"

#include "ptx.h"

#endif
