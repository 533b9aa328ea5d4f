// Memory that is zeroed, taken from the system when it is first touched, and freed all at once. It
// lies on large pages where the system has them: they are read faster. Without memory the process
// ends.

#pragma once

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

class Memory {
  public:
    template <class T>
    T* take(size_t count) {
        const size_t bytes = (count * sizeof(T) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        if (bytes > left_) extend(bytes > BLOCK ? bytes : BLOCK, MADV_HUGEPAGE);
        left_ -= bytes;
        next_ += bytes;
        return (T*)(next_ - bytes);
    }

    // Small pages, for memory that is touched bit by bit: a large one is zeroed as a whole.
    template <class T>
    T* take_sparsely(size_t count) {
        extend(count * sizeof(T), MADV_NOHUGEPAGE);
        left_ = 0;  // the next block has large pages again
        return (T*)next_;
    }

    template <class T>
    T* copy(const T* source, size_t count) {
        return (T*)memcpy(take<T>(count), source, count * sizeof(T));
    }

    void free() {
        while (Block* block = last_) {
            last_ = block->previous;
            munmap(block, block->size);
        }
        left_ = 0;
    }

  private:
    static constexpr size_t ALIGNMENT = 64, BLOCK = 32 << 20;

    struct Block {
        Block* previous;
        size_t size;
    };

    void extend(size_t bytes, int advice) {
        const size_t size = bytes + ALIGNMENT;
        void* pages = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) {
            perror("the native code's memory");
            abort();
        }
        madvise(pages, size, advice);
        *(Block*)pages = {last_, size};
        last_ = (Block*)pages;
        next_ = (char*)pages + ALIGNMENT;
        left_ = size - ALIGNMENT;
    }

    Block* last_;
    char* next_;
    size_t left_;
};
