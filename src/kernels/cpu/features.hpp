// The instruction sets that kernels are compiled for, as src/kernels/cpu/mod.rs numbers them.

#pragma once

namespace {

enum Vectors { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

}  // namespace
