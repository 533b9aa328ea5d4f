// The keys and values of a text, for the cross-attention of all layers.

#pragma once

#include "cache.h"
#include "memory.h"

struct Text {
    Memory memory;
    Cache cache;  // a row for each layer
    int tokens;   // none: the null text, which adds nothing
};
