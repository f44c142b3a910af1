// A fiber begins with `makecontext`, which makes two system calls when it is entered; from then on
// `_setjmp` and `_longjmp` carry from one to the next. (Compiled without _FORTIFY_SOURCE, which takes a jump
// to another stack for an attack.)
#include "fiber.h"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

namespace emulator {
namespace {

constexpr std::size_t STACK_BYTES = 64 << 10;

// What `begin` is told, as `makecontext` passes no pointers.
struct Start {
    Place* place;
    void (*body)();
    ucontext_t back;
};
thread_local Start* starting = nullptr;

void begin() {
    void (*const body)() = starting->body;
    if (_setjmp(starting->place->registers) == 0) {
        setcontext(&starting->back);
    }
    body();
}

}  // namespace

__attribute__((noinline)) void switch_to(Place& from, Place& to) {
    if (_setjmp(from.registers) == 0) {
        _longjmp(to.registers, 1);
    }
}

void leave_for(Place& to) { _longjmp(to.registers, 1); }

// Below every stack lies a page that cannot be touched, so that a kernel with too large arrays ends the
// process rather than overwrite the next stack.
Stacks::Stacks(std::size_t count)
    : guard_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))), stride_(STACK_BYTES + guard_), count_(count) {
    void* memory = mmap(nullptr, stride_ * count_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return;
    }
    memory_ = static_cast<unsigned char*>(memory);
    for (std::size_t index = 0; index < count_; index++) {
        mprotect(memory_ + index * stride_, guard_, PROT_NONE);
    }
}

Stacks::~Stacks() {
    if (memory_ != nullptr) {
        munmap(memory_, stride_ * count_);
    }
}

void Stacks::prepare(std::size_t index, Place& place, void (*body)()) {
    Start start{&place, body, {}};
    ucontext_t context;
    getcontext(&context);
    // Stacks a multiple of the page apart would have their busiest lines compete for the same few places of
    // the processor's cache.
    const std::size_t shift = index % 16 * 256;
    context.uc_stack.ss_sp = memory_ + index * stride_ + guard_;
    context.uc_stack.ss_size = STACK_BYTES - shift;
    context.uc_link = nullptr;
    makecontext(&context, begin, 0);
    starting = &start;
    swapcontext(&start.back, &context);
    starting = nullptr;
}

}  // namespace emulator
