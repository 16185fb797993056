// The runtime of tile programs on CPUs: vectors, their functions, products, loops with folds, packing copies.
// Nothing here knows what is computed with it.
#pragma once
#include "pack.hpp"
