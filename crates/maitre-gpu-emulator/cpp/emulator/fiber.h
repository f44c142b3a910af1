// Threads of a block as fibers: each has its own stack, and one runs until it hands over to another.
#pragma once

#include <setjmp.h>

#include <cstddef>

namespace emulator {

// Where a fiber goes on.
struct Place {
    jmp_buf registers;
};

// Goes on at `to`; returns when another fiber goes on at `from`. Two jumps within the process: no system call.
void switch_to(Place& from, Place& to);

// Goes on at `to` and never comes back.
[[noreturn]] void leave_for(Place& to);

// Memory for the stacks of so many fibers, touched where they use it.
class Stacks {
   public:
    // Null in `valid` if the system has no space for them.
    explicit Stacks(std::size_t count);
    ~Stacks();
    Stacks(const Stacks&) = delete;
    Stacks& operator=(const Stacks&) = delete;

    bool valid() const { return memory_ != nullptr; }

    // Makes fiber `index` stand before `body`, which must never return.
    void prepare(std::size_t index, Place& place, void (*body)());

   private:
    unsigned char* memory_ = nullptr;
    std::size_t guard_;
    std::size_t stride_;
    std::size_t count_;
};

}  // namespace emulator
