// Threads that take tiles of work one by one from a shared counter.
//
// A thread that does not run, since another process has its core, holds up at most the tile that it
// has taken. Pools that give each thread a fixed share wait for such a thread in each call.

#pragma once

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

class Pool {
  public:
    static constexpr int MOST = 64;  // threads, the caller's included

    void start(int threads) {  // or as many as the system gives
        for (; started_ < threads - 1; started_++) {
            workers_[started_] = {this, started_ + 1, {}};
            if (pthread_create(&workers_[started_].handle, nullptr, enter, &workers_[started_]))
                return;
        }
    }

    void stop() {
        __atomic_store_n(&stopping_, true, __ATOMIC_SEQ_CST);
        announce();
        for (int i = 0; i < started_; i++) pthread_join(workers_[i].handle, nullptr);
    }

    // Calls work(tile, thread) for each tile, and returns when all are done.
    template <class Work>
    void run(int tiles, const Work& work) {
        call_ = [](const void* work, int tile, int thread) { (*(const Work*)work)(tile, thread); };
        work_ = &work;
        __atomic_store_n(&finished_, 0, __ATOMIC_RELAXED);
        const uint64_t number = (ticket_ >> 40) + 1;
        __atomic_store_n(&ticket_, number << 40 | (uint64_t)tiles << 20, __ATOMIC_RELEASE);
        if (started_ && tiles > 1) announce();
        while (take(0)) {
        }
        for (int spins = 1; __atomic_load_n(&finished_, __ATOMIC_ACQUIRE) < tiles; spins++)
            spins % 1024 ? pause() : (void)sched_yield();
    }

  private:
    // Before a worker sleeps: the next call mostly comes sooner.
    static constexpr int SPINS = 20000;

    struct Worker {
        Pool* pool;
        int thread;
        pthread_t handle;
    };

    static void pause() {
#if defined(__x86_64__)
        _mm_pause();
#endif
    }

    static void* enter(void* worker) {
        ((Worker*)worker)->pool->serve(((Worker*)worker)->thread);
        return nullptr;
    }

    void serve(int thread) {
        for (;;) {
            // Read first: what is announced later keeps this thread awake.
            const uint32_t seen = __atomic_load_n(&calls_, __ATOMIC_SEQ_CST);
            if (__atomic_load_n(&stopping_, __ATOMIC_SEQ_CST)) return;
            while (take(thread)) {
            }
            for (int i = 0; i < SPINS && __atomic_load_n(&calls_, __ATOMIC_SEQ_CST) == seen; i++)
                pause();
            __atomic_add_fetch(&sleeping_, 1, __ATOMIC_SEQ_CST);
            syscall(SYS_futex, &calls_, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
            __atomic_sub_fetch(&sleeping_, 1, __ATOMIC_SEQ_CST);
        }
    }

    void announce() {
        __atomic_add_fetch(&calls_, 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&sleeping_, __ATOMIC_SEQ_CST))
            syscall(SYS_futex, &calls_, FUTEX_WAKE_PRIVATE, MOST, nullptr, nullptr, 0);
    }

    // False when no tile is left. The ticket holds the number of the call, of its tiles and of the
    // next tile in one word, so a thread that comes late takes no tile of another call unseen.
    bool take(int thread) {
        uint64_t ticket = __atomic_load_n(&ticket_, __ATOMIC_ACQUIRE);
        const int tile = ticket & 0xfffff, tiles = ticket >> 20 & 0xfffff;
        if (tile >= tiles) return false;
        if (__atomic_compare_exchange_n(&ticket_, &ticket, ticket + 1, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
            call_(work_, tile, thread);
            __atomic_add_fetch(&finished_, 1, __ATOMIC_RELEASE);
        }
        return true;
    }

    alignas(64) uint64_t ticket_;
    alignas(64) int finished_;
    alignas(64) uint32_t calls_;
    uint32_t sleeping_;
    bool stopping_;
    void (*call_)(const void* work, int tile, int thread);
    const void* work_;
    int started_;
    Worker workers_[MOST];
};
