// One block of threads at work: which thread runs next, and which threads wait for which.
#pragma once

#include <memory>
#include <vector>

#include "device.h"
#include "fiber.h"

namespace emulator {

constexpr u32 MAX_THREADS = 1024;
constexpr u32 WARPGROUP = 128;
constexpr u32 MAX_SHARED_BYTES = 227 << 10;

// A copy of 16 bytes that has not landed yet.
struct Copy {
    unsigned char* to;
    const unsigned char* from;
    bool valid;
    // The number of commits before it.
    u32 group;
};

// A box that has not landed yet.
struct Box {
    unsigned char* to;
    Matrix matrix;
    BoxAt at;
    Barrier* barrier;
};

// A multiplication that has not been done yet.
struct Multiplication {
    float* sums;
    u64 a;
    u64 b;
    u32 columns;
    // Whether it adds to what is in the sums; whether the second operand has a row per number of k; whether the first
    // comes from registers, and then the thread's two rows of it.
    bool keep;
    bool rows;
    bool is_held;
    float held[2][16];
    // The number of commits before it.
    u32 group;
};

struct Thread {
    enum class State { Ready, InWarp, AtBarrier, OnBarrier, OnWarpgroup, Returned };
    Place place;
    bool prepared = false;
    State state = State::Ready;
    // What it waits for.
    const char* operation = nullptr;
    Site site{};
    std::vector<Copy> copies;
    u32 commits = 0;
    std::vector<Multiplication> multiplications;
    u32 multiply_commits = 0;
    // Commits of every thread of the warpgroup that it waits for.
    u32 awaited_commits = 0;
    // The barrier in shared memory that it waits on.
    const Barrier* barrier = nullptr;
    // Whether it has waited for the kernel before.
    bool has_waited = false;
};

// What the lanes of a warp have brought to the operation that they are to do together.
struct Warp {
    u32 arrived = 0;
    u32 first = 0;
    void* lanes[WARP];
};

// Brings a box to shared memory, each row turned as the copy engine turns it; the bytes that it counts.
u32 land(const Box& box);

// All that one host thread needs to run blocks one after the other.
class Machine {
   public:
    // This host thread's.
    static Machine& get();

    // Runs all blocks; false if something went wrong, which `message` then says.
    bool run(const char* name, const Kernel& kernel, void* const* args, Index grid, u32 threads,
             u32 shared_bytes);
    const char* message() const { return message_; }
    void seed(u64 seed) { seed_ = seed == 0 ? default_seed_ : seed; }

    // What fibers call.
    void barrier(Site site);
    void wait_on(Barrier* barrier, u32 parity, Site site);
    // Waits until all threads of the warpgroup have committed so many groups of multiplications: each is one operation
    // of all of them, not done before the last has asked for it.
    void wait_on_warpgroup(u32 commits, Site site);
    // The running thread has committed one more.
    void committed();
    // Calls `f` for the running thread's warpgroup, thread by thread.
    template <typename F>
    void for_warpgroup(F f) {
        const u32 first = current_ / WARPGROUP * WARPGROUP;
        for (u32 thread = first; thread < first + WARPGROUP && thread < num_threads_; thread++) {
            f(thread, threads_[thread]);
        }
    }
    // One arrival or so many bytes less to wait for; those who wait go on if that was all.
    void settle(Barrier* barrier);
    // Starts to copy a box: it lands at once, or when no thread can go on without it.
    void start(const Box& box);
    // Brings `mine` to an operation of the warp. The last lane to come calls `combine` with what all of them
    // brought; then all go on.
    void meet(const char* operation, u32 mask, Site site, void* mine, void (*combine)(void* const* lanes));
    // Ends the launch with an error of the running thread.
    [[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 2, 3)));
    Thread& thread() { return threads_[current_]; }
    unsigned char* shared() { return shared_.get() + SHARED_GUARD; }
    bool in_shared(const void* start, std::size_t bytes);
    // A number below `limit`, from the seed.
    u32 random(u32 limit);

   private:
    static constexpr u32 SHARED_GUARD = 256;
    static constexpr u32 NO_THREAD = ~0u;

    Machine();
    static void fiber_body();
    bool prepare(u32 threads);
    void run_block();
    void begin_block();
    void check_shared();
    // Lets other threads run until one of them makes this thread ready.
    void wait(Thread::State state, const char* operation, Site site);
    u32 pick();
    void make_ready_warp(u32 warp);
    void make_ready_block();
    void make_ready(u32 thread);
    // Lets one box land; false if none is under way.
    bool land_box();
    [[noreturn]] void fail_parted(u32 warp, const char* operation, Site site);
    [[noreturn]] void fail_stuck();
    void describe(u32 thread, char* text, std::size_t len) const;

    const char* name_ = nullptr;
    const Kernel* kernel_ = nullptr;
    void* const* args_ = nullptr;
    u32 num_threads_ = 0;
    u32 shared_bytes_ = 0;

    std::unique_ptr<Stacks> stacks_;
    std::unique_ptr<Thread[]> threads_;
    std::unique_ptr<unsigned char[]> shared_;
    std::vector<Box> boxes_;
    Warp warps_[MAX_THREADS / WARP];
    Place host_;

    u32 current_ = NO_THREAD;
    u32 ready_[MAX_THREADS];
    u32 num_ready_ = 0;
    u32 at_barrier_ = 0;
    u32 returned_ = 0;
    bool newest_first_ = false;

    u64 default_seed_ = 1;
    u64 seed_ = 1;
    u64 state_ = 1;
    bool failed_ = false;
    char message_[1024] = {};
};

}  // namespace emulator
