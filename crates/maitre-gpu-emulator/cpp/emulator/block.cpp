// The order of a block's threads. A thread runs until it has to wait; then one of those that are ready goes
// on, drawn from the seed. Half of the blocks draw among all that are ready, so that warps advance together;
// the others go on with the one that became ready last, so that one warp runs ahead as far as it can. Between
// them they find most places where a barrier is missing.
#include "block.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "poison.h"

__thread emulator::Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

Machine& Machine::get() {
    static thread_local std::unique_ptr<Machine> machine(new Machine());
    return *machine;
}

Machine::Machine()
    : threads_(new Thread[MAX_THREADS]), shared_(new unsigned char[MAX_SHARED_BYTES + 2 * SHARED_GUARD]) {
    if (const char* seed = std::getenv("MAITRE_EMULATOR_SEED")) {
        default_seed_ = std::strtoull(seed, nullptr, 10);
    }
    this->seed(0);
}

bool Machine::run(const char* name, const Kernel& kernel, void* const* args, Index grid, u32 threads,
                  u32 shared_bytes) {
    name_ = name;
    kernel_ = &kernel;
    args_ = args;
    num_threads_ = threads;
    shared_bytes_ = shared_bytes;
    failed_ = false;
    // A launch depends on the seed alone, not on what ran before.
    state_ = seed_ * 0x9e3779b97f4a7c15u | 1;
    if (!prepare(threads)) {
        return false;
    }
    gridDim = grid;
    blockDim = {threads, 1, 1};
    // Blocks run in an order of which kernels know nothing: in steps that have no factor in common with their
    // number.
    const u64 blocks = static_cast<u64>(grid.x) * grid.y * grid.z;
    u64 step = random(1u << 16) + 1;
    while (std::gcd(step, blocks) != 1) {
        step++;
    }
    u64 block = random(1u << 16) % blocks;
    for (u64 done = 0; done < blocks && !failed_; done++) {
        blockIdx = {static_cast<u32>(block % grid.x), static_cast<u32>(block / grid.x % grid.y),
                    static_cast<u32>(block / grid.x / grid.y)};
        run_block();
        block = (block + step) % blocks;
    }
    return !failed_;
}

bool Machine::prepare(u32 threads) {
    if (stacks_ == nullptr) {
        stacks_.reset(new Stacks(MAX_THREADS));
    }
    if (!stacks_->valid()) {
        stacks_.reset();
        std::snprintf(message_, sizeof message_, "no address space for the stacks of %u threads", MAX_THREADS);
        failed_ = true;
        return false;
    }
    for (u32 thread = 0; thread < threads; thread++) {
        if (!threads_[thread].prepared) {
            stacks_->prepare(thread, threads_[thread].place, fiber_body);
            threads_[thread].prepared = true;
        }
    }
    return true;
}

// A fiber runs the same thread of one block after the other.
void Machine::fiber_body() {
    Machine& machine = get();
    for (;;) {
        machine.kernel_->call(machine.kernel_->function, machine.args_);
        if (!machine.thread().has_waited) {
            machine.fail("it ended without `wait_for_previous`");
        }
        machine.returned_++;
        machine.wait(Thread::State::Returned, "the end", Site{"", 0});
    }
}

void Machine::run_block() {
    begin_block();
    current_ = pick();
    threadIdx.x = current_;
    switch_to(host_, threads_[current_].place);
    if (failed_) {
        // The fibers stand somewhere within the kernel.
        for (u32 thread = 0; thread < num_threads_; thread++) {
            threads_[thread].prepared = false;
        }
        return;
    }
    check_shared();
}

void Machine::begin_block() {
    fill_with_poison(shared_.get(), shared_bytes_ + 2 * SHARED_GUARD);
    for (u32 thread = 0; thread < num_threads_; thread++) {
        threads_[thread].copies.clear();
        threads_[thread].commits = 0;
        threads_[thread].multiplications.clear();
        threads_[thread].multiply_commits = 0;
        threads_[thread].has_waited = false;
    }
    boxes_.clear();
    for (Warp& warp : warps_) {
        warp.arrived = 0;
    }
    at_barrier_ = 0;
    returned_ = 0;
    num_ready_ = 0;
    current_ = NO_THREAD;
    newest_first_ = random(2) == 0;
    make_ready_block();
}

void Machine::check_shared() {
    // In whole words, counted from the start as they were filled.
    const u32 end = (shared_bytes_ + 3) / 4 * 4;
    const std::size_t before = first_change(shared_.get(), SHARED_GUARD);
    const std::size_t behind = first_change(shared() + end, SHARED_GUARD - (end - shared_bytes_));
    long long at = end + static_cast<long long>(behind);
    if (before < SHARED_GUARD) {
        at = static_cast<long long>(before) - SHARED_GUARD;
    } else if (at == shared_bytes_ + SHARED_GUARD) {
        return;
    }
    std::snprintf(message_, sizeof message_,
                  "kernel %s, block (%u, %u, %u): shared memory was written near byte %lld, but the launch asked for "
                  "%u bytes",
                  name_, blockIdx.x, blockIdx.y, blockIdx.z, at, shared_bytes_);
    failed_ = true;
}

void Machine::wait(Thread::State state, const char* operation, Site site) {
    Thread& self = threads_[current_];
    self.state = state;
    self.operation = operation;
    self.site = site;
    u32 next = pick();
    while (next == NO_THREAD && returned_ < num_threads_ && land_box()) {
        next = pick();
    }
    if (next == current_) {
        return;
    }
    if (next == NO_THREAD) {
        if (returned_ < num_threads_) {
            fail_stuck();
        }
        switch_to(self.place, host_);
        return;
    }
    current_ = next;
    threadIdx.x = next;
    switch_to(self.place, threads_[next].place);
}

u32 Machine::pick() {
    if (num_ready_ == 0) {
        return NO_THREAD;
    }
    num_ready_--;
    if (!newest_first_) {
        std::swap(ready_[random(num_ready_ + 1)], ready_[num_ready_]);
    }
    return ready_[num_ready_];
}

void Machine::make_ready(u32 thread) {
    threads_[thread].state = Thread::State::Ready;
    ready_[num_ready_] = thread;
    num_ready_++;
}

void Machine::wait_on(Barrier* barrier, u32 parity, Site site) {
    // The phase of that parity has ended once the other goes on.
    if ((barrier->arrivals >> 15 & 1u) == parity) {
        thread().barrier = barrier;
        wait(Thread::State::OnBarrier, "barrier_wait", site);
    }
}

void Machine::wait_on_warpgroup(u32 commits, Site site) {
    bool all = true;
    for_warpgroup([&](u32, const Thread& other) { all = all && other.multiply_commits >= commits; });
    if (!all) {
        thread().awaited_commits = commits;
        wait(Thread::State::OnWarpgroup, "multiply_wait", site);
    }
}

void Machine::committed() {
    const u32 mine = ++thread().multiply_commits;
    u32 least = mine;
    for_warpgroup([&](u32, const Thread& other) { least = std::min(least, other.multiply_commits); });
    if (least < mine) {
        return;
    }
    for_warpgroup([&](u32 index, const Thread& other) {
        if (other.state == Thread::State::OnWarpgroup && other.awaited_commits <= least) {
            make_ready(index);
        }
    });
}

void Machine::settle(Barrier* barrier) {
    if (barrier->pending != 0 || barrier->bytes != 0) {
        return;
    }
    barrier->arrivals ^= 0x8000u;
    barrier->pending = barrier->arrivals & 0x7fffu;
    for (u32 thread = 0; thread < num_threads_; thread++) {
        if (threads_[thread].state == Thread::State::OnBarrier && threads_[thread].barrier == barrier) {
            make_ready(thread);
        }
    }
}

bool Machine::land_box() {
    if (boxes_.empty()) {
        return false;
    }
    std::swap(boxes_[random(static_cast<u32>(boxes_.size()))], boxes_.back());
    const Box box = boxes_.back();
    boxes_.pop_back();
    const u32 bytes = land(box);
    box.barrier->bytes -= static_cast<i32>(bytes);
    settle(box.barrier);
    return true;
}

void Machine::start(const Box& box) {
    boxes_.push_back(box);
    if (random(2) == 0) {
        land_box();
    }
}

void Machine::make_ready_warp(u32 warp) {
    // An odd step visits all lanes.
    const u32 step = random(WARP / 2) * 2 + 1;
    u32 lane = random(WARP);
    for (u32 i = 0; i < WARP; i++) {
        const u32 thread = warp * WARP + lane;
        threads_[thread].state = Thread::State::Ready;
        ready_[num_ready_] = thread;
        num_ready_++;
        lane = (lane + step) % WARP;
    }
}

void Machine::make_ready_block() {
    u32 order[MAX_THREADS / WARP];
    const u32 warps = num_threads_ / WARP;
    for (u32 warp = 0; warp < warps; warp++) {
        const u32 other = random(warp + 1);
        order[warp] = order[other];
        order[other] = warp;
    }
    for (u32 warp = 0; warp < warps; warp++) {
        make_ready_warp(order[warp]);
    }
}

void Machine::barrier(Site site) {
    at_barrier_++;
    if (at_barrier_ == num_threads_) {
        at_barrier_ = 0;
        make_ready_block();
    }
    wait(at_barrier_ == 0 ? Thread::State::Ready : Thread::State::AtBarrier, "__syncthreads", site);
}

void Machine::meet(const char* operation, u32 mask, Site site, void* mine,
                   void (*combine)(void* const* lanes)) {
    if (mask != ALL_LANES) {
        fail("%s at %s:%d names the lanes %08x; all 32 have to take part", operation, site.file, site.line, mask);
    }
    const u32 index = current_ / WARP;
    Warp& warp = warps_[index];
    if (warp.arrived == 0) {
        warp.first = current_;
    } else {
        const Thread& first = threads_[warp.first];
        if (first.operation != operation || first.site.line != site.line || first.site.file != site.file) {
            fail_parted(index, operation, site);
        }
    }
    warp.lanes[current_ % WARP] = mine;
    warp.arrived++;
    if (warp.arrived == WARP) {
        warp.arrived = 0;
        combine(warp.lanes);
        make_ready_warp(index);
        wait(Thread::State::Ready, operation, site);
    } else {
        wait(Thread::State::InWarp, operation, site);
    }
}

void Machine::fail(const char* format, ...) {
    const int used = std::snprintf(message_, sizeof message_, "kernel %s, block (%u, %u, %u), thread %u: ", name_,
                                   blockIdx.x, blockIdx.y, blockIdx.z, current_);
    va_list values;
    va_start(values, format);
    if (used > 0 && static_cast<std::size_t>(used) < sizeof message_) {
        std::vsnprintf(message_ + used, sizeof message_ - static_cast<std::size_t>(used), format, values);
    }
    va_end(values);
    failed_ = true;
    leave_for(host_);
}

void Machine::fail_parted(u32 warp, const char* operation, Site site) {
    char other[256];
    describe(warps_[warp].first, other, sizeof other);
    fail("the warp has parted: it calls %s at %s:%d, while %s", operation, site.file, site.line, other);
}

// No thread can go on: names a thread that waits and one that it waits for.
void Machine::fail_stuck() {
    char missing_text[256];
    for (u32 index = 0; index < num_threads_ / WARP; index++) {
        if (warps_[index].arrived == 0) {
            continue;
        }
        u32 missing = index * WARP;
        while (threads_[missing].state == Thread::State::InWarp) {
            missing++;
        }
        current_ = warps_[index].first;
        describe(missing, missing_text, sizeof missing_text);
        fail("the warp has parted: it calls %s at %s:%d, while %s", thread().operation, thread().site.file,
             thread().site.line, missing_text);
    }
    u32 waiting = 0;
    while (waiting < num_threads_ && threads_[waiting].state != Thread::State::AtBarrier) {
        waiting++;
    }
    if (waiting == num_threads_) {
        current_ = 0;
        while (threads_[current_].state != Thread::State::OnBarrier &&
               threads_[current_].state != Thread::State::OnWarpgroup) {
            current_++;
        }
        if (thread().state == Thread::State::OnWarpgroup) {
            fail("not all threads of the warpgroup multiply what multiply_wait at %s:%d waits for", thread().site.file,
                 thread().site.line);
        }
        fail("nothing ends the phase that barrier_wait at %s:%d waits for", thread().site.file, thread().site.line);
    }
    u32 missing = 0;
    while (threads_[missing].state == Thread::State::AtBarrier) {
        missing++;
    }
    current_ = waiting;
    describe(missing, missing_text, sizeof missing_text);
    fail("not all threads reach the __syncthreads at %s:%d: %s", thread().site.file, thread().site.line,
         missing_text);
}

void Machine::describe(u32 thread, char* text, std::size_t len) const {
    const Thread& other = threads_[thread];
    if (other.state == Thread::State::Returned) {
        std::snprintf(text, len, "thread %u has returned", thread);
    } else {
        std::snprintf(text, len, "thread %u waits in %s at %s:%d", thread, other.operation, other.site.file,
                      other.site.line);
    }
}

bool Machine::in_shared(const void* start, std::size_t bytes) {
    const unsigned char* const byte = static_cast<const unsigned char*>(start);
    return byte >= shared() && byte + bytes <= shared() + shared_bytes_;
}

// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016).
u32 Machine::random(u32 limit) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    const u64 high = state_ * 0x2545f4914f6cdd1du >> 32;
    return static_cast<u32>(high * limit >> 32);
}

}  // namespace emulator
