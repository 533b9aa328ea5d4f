// Products of 16 rows at once, by the tiles of AMX.
//
// A tile register has 16 rows of 64 bytes. One instruction multiplies 64 inputs of 16 rows by their
// weights for 16 outputs. Its sums are whole numbers, so they are those of the other instruction
// sets to the bit.

#pragma once

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lanes.h"

constexpr int TILE_ROWS = 16, TILE_BYTES = 64;

#if defined(__AMX_INT8__)

// A process asks the system for the state of these registers before it uses them (Linux,
// Documentation/arch/x86/xstate.rst). It refuses, too, where a thread's alternate signal stack is
// too small for them. Then the other instructions do the work.
const bool TILES_PERMITTED = !syscall(SYS_arch_prctl, 0x1023, 18);

// The shape of the three registers in use: Intel's manual, LDTILECFG.
alignas(64) const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} TILE_SHAPES = {1, 0, {}, {TILE_BYTES, TILE_BYTES, TILE_BYTES}, {TILE_ROWS, TILE_ROWS, TILE_ROWS}};

// This thread's registers. They are released after each use: with them a core does not sleep.
class Tiles {
  public:
    Tiles() { _tile_loadconfig(&TILE_SHAPES); }
    ~Tiles() { _tile_release(); }

    // Adds the products of `count` inputs, a multiple of 64, to the sums of 16 rows. Rows of inputs
    // begin `stride` bytes apart; weights are [count / 4, 16 outputs, 4].
    static void add(IntVector (*sums)[PARTS], const void* inputs, int stride,
                    const uint8_t* weights, int count) {
        asm volatile("" ::: "memory");  // the compiler does not see that tiles read and write
        _tile_loadd(0, sums, TILE_BYTES);
        for (int i = 0; i < count; i += TILE_BYTES, weights += TILE_ROWS * TILE_BYTES) {
            for (int row = 0; row < TILE_ROWS; row++)
                __builtin_prefetch(weights + AHEAD + row * TILE_BYTES);
            _tile_loadd(1, (const char*)inputs + i, stride);
            _tile_loadd(2, weights, TILE_BYTES);
            _tile_dpbsud(0, 1, 2);
        }
        _tile_stored(0, sums, TILE_BYTES);
        asm volatile("" ::: "memory");
    }
};

#else

constexpr bool TILES_PERMITTED = false;

struct Tiles {
    static void add(IntVector (*)[PARTS], const void*, int, const uint8_t*, int) {}
};

#endif
