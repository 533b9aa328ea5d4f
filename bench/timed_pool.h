// Times the native code. The compiler includes this file before each file of kernels/, whose Pool
// it replaces by one that notes when each pass over tiles begins and ends, and how long the threads
// work in it.

#pragma once

#include <time.h>

#include "../kernels/pool.h"

struct Pass {
    double start, end, work;  // seconds; work: of all threads together
};

constexpr int MOST_PASSES = 4096;

extern "C" {
inline Pass passes[MOST_PASSES];
inline int32_t pass_count;
}

class TimedPool : public Pool {
  public:
    template <class Work>
    void run(int tiles, const Work& work) {
        struct alignas(64) Time {
            double worked;
        } times[MOST] = {};
        const double start = now();
        Pool::run(tiles, [&](int tile, int thread) {
            const double start = now();
            work(tile, thread);
            times[thread].worked += now() - start;
        });
        Pass& pass = passes[pass_count++ % MOST_PASSES];
        pass = {start, now(), 0};
        for (const Time& time : times) pass.work += time.worked;
    }

  private:
    static double now() {
        timespec time;
        clock_gettime(CLOCK_MONOTONIC, &time);
        return time.tv_sec + 1e-9 * time.tv_nsec;
    }
};

#define Pool TimedPool
