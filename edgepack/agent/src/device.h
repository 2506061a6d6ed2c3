/* Where kernels run. */
#ifndef EDGEPACK_DEVICE_H
#define EDGEPACK_DEVICE_H

enum device { DEVICE_CPU, DEVICE_CUDA };

enum { MAX_TENSORS = 16 }; /* of a model: inputs, and outputs */

#endif
