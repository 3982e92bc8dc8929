// The main() of each design's programs: runs the one that the first argument names, and tells what
// was measured as a line that begins with RESULT.
#include "program.hpp"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <fstream>
#include <new>
#include <sstream>
#include <stdexcept>

#include <unistd.h>

// Callgrind, run with --instr-atstart=no, counts what is measured and nothing else.
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#endif

// --- every allocation is counted -----------------------------------------------------------

namespace {

std::uint64_t allocations = 0;
std::uint64_t allocated_bytes = 0;

void* counted(void* memory, std::size_t bytes) {
    if (!memory)
        throw std::bad_alloc();
    ++allocations;
    allocated_bytes += bytes;
    return memory;
}

} // namespace

void* operator new(std::size_t bytes) { return counted(std::malloc(bytes), bytes); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    const auto step = static_cast<std::size_t>(alignment);
    return counted(std::aligned_alloc(step, (bytes + step - 1) / step * step), bytes);
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    void* memory = std::malloc(bytes);
    return memory ? counted(memory, bytes) : nullptr;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

// --- a run ---------------------------------------------------------------------------------

namespace designs {

namespace {

std::uint64_t clock_ns(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u +
           static_cast<std::uint64_t>(time.tv_nsec);
}

std::int64_t resident_bytes() {
    std::int64_t total = 0;
    std::int64_t resident = 0;
    std::ifstream("/proc/self/statm") >> total >> resident;
    return resident * ::sysconf(_SC_PAGESIZE);
}

} // namespace

int Run::operator[](std::string_view name) const {
    const auto number = numbers_.find(name);
    if (number == numbers_.end())
        throw std::invalid_argument("needs " + std::string(name) + "=NUMBER");
    return static_cast<int>(number->second);
}

void Run::measure(const std::function<std::uint64_t()>& system_calls,
                  const std::function<std::uint64_t()>& body, Warm warm) {
    if (warm == Warm::yes)
        body();
    resident_before_ = resident_bytes();
    const std::uint64_t allocations_before = allocations;
    const std::uint64_t bytes_before = allocated_bytes;
    const std::uint64_t system_calls_before = system_calls();
    const std::uint64_t cpu_before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    const std::uint64_t before = clock_ns(CLOCK_MONOTONIC);
    CALLGRIND_START_INSTRUMENTATION;
    operations_ = body();
    CALLGRIND_STOP_INSTRUMENTATION;
    ns_ = clock_ns(CLOCK_MONOTONIC) - before;
    cpu_ns_ = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_before;
    system_calls_ = system_calls() - system_calls_before;
    allocations_ = allocations - allocations_before;
    allocated_bytes_ = allocated_bytes - bytes_before;
}

void Run::note_memory() { resident_ = resident_bytes() - resident_before_; }

std::string Run::result() const {
    std::ostringstream text;
    text << "{\"operations\": " << operations_ << ", \"ns\": " << ns_ << ", \"cpu_ns\": " << cpu_ns_
         << ", \"system_calls\": " << system_calls_ << ", \"allocations\": " << allocations_
         << ", \"allocated_bytes\": " << allocated_bytes_ << ", \"resident_bytes\": " << resident_
         << "}";
    return text.str();
}

} // namespace designs

int main(int argc, char** argv) {
    using namespace designs;
    try {
        const std::string_view wanted = argc > 1 ? argv[1] : "";
        std::map<std::string, std::int64_t, std::less<>> numbers;
        for (int i = 2; i < argc; ++i) {
            const std::string_view argument = argv[i];
            const std::size_t equals = argument.find('=');
            std::int64_t number = 0;
            if (equals == std::string_view::npos ||
                std::from_chars(argument.data() + equals + 1, argument.data() + argument.size(),
                                number)
                        .ptr != argument.data() + argument.size())
                throw std::invalid_argument("not NAME=NUMBER: " + std::string(argument));
            numbers.emplace(argument.substr(0, equals), number);
        }
        for (const Program& program : programs) {
            if (program.name != wanted)
                continue;
            Run run{std::move(numbers)};
            program.run(run);
            std::printf("RESULT %s\n", run.result().c_str());
            return 0;
        }
        std::fprintf(stderr, "%s: PROGRAM [NAME=NUMBER...], of these:", argv[0]);
        for (const Program& program : programs)
            std::fprintf(stderr, " %s", program.name.data());
        std::fprintf(stderr, "\n");
        return 2;
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "%s: %s\n", argv[0], failure.what());
        return 1;
    }
}
