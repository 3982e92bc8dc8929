// What the programs that put load on a server share: time, latencies, and what the server costs.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

/// Ends the program with that sentence.
[[noreturn]] inline void fail(const std::string& what, int error = 0) {
    std::fprintf(stderr, "%s: %s%s%s\n", program_invocation_short_name, what.c_str(),
                 error ? ": " : "", error ? std::strerror(error) : "");
    std::exit(1);
}

inline std::uint64_t now_ns() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u +
           static_cast<std::uint64_t>(time.tv_nsec);
}

/// How often each latency was seen, to 3 %: 32 steps between a power of two and the next.
class Histogram {
public:
    void add(std::uint64_t ns) {
        ++counts_[index_of(ns)];
        ++total_;
        max_ = std::max(max_, ns);
    }
    std::uint64_t total() const { return total_; }
    double max_us() const { return static_cast<double>(max_) / 1e3; }

    double percentile_us(double percent) const {
        const auto wanted = static_cast<std::uint64_t>(static_cast<double>(total_) * percent / 100);
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            seen += counts_[i];
            if (seen > wanted)
                return std::min(static_cast<double>(end_of(i)) / 1e3, max_us());
        }
        return max_us();
    }

private:
    static constexpr unsigned step_bits = 5;
    static constexpr std::uint64_t steps = 1u << step_bits;

    static std::size_t index_of(std::uint64_t ns) {
        if (ns < steps)
            return ns;
        const auto shift = static_cast<unsigned>(std::bit_width(ns)) - step_bits - 1;
        return (std::size_t{shift} << step_bits) + (ns >> shift);
    }
    static std::uint64_t end_of(std::size_t index) {
        if (index < steps)
            return index;
        const std::size_t shift = (index >> step_bits) - 1;
        return ((index - (shift << step_bits)) + 1) << shift;
    }

    std::array<std::uint64_t, 64 * steps> counts_{};
    std::uint64_t total_ = 0;
    std::uint64_t max_ = 0;
};

/// What the system tells of the server's processor time.
struct ProcessorTime {
    std::uint64_t ran_ns = 0;    ///< all threads, and those of child processes
    std::uint64_t waited_ns = 0; ///< ready to run, while others ran
    std::uint64_t stolen_ns = 0; ///< by the host, of all processors

    static ProcessorTime of(int pid) {
        ProcessorTime time;
        if (!time.add(pid))
            fail("process " + std::to_string(pid), ESRCH);
        std::ifstream stat("/proc/stat");
        std::string name;
        std::uint64_t user = 0, nice = 0, system = 0, idle = 0, io_wait = 0, irq = 0, soft_irq = 0,
                      steal = 0;
        stat >> name >> user >> nice >> system >> idle >> io_wait >> irq >> soft_irq >> steal;
        time.stolen_ns = steal * 1'000'000'000u / static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
        return time;
    }

private:
    /// False if there is no such process.
    bool add(int pid) {
        const std::filesystem::path tasks = "/proc/" + std::to_string(pid) + "/task";
        std::error_code gone;
        for (const auto& task : std::filesystem::directory_iterator(tasks, gone)) {
            std::uint64_t ran = 0;
            std::uint64_t waited = 0;
            std::ifstream(task.path() / "schedstat") >> ran >> waited;
            ran_ns += ran;
            waited_ns += waited;
            std::ifstream children(task.path() / "children");
            for (int child = 0; children >> child;)
                add(child);
        }
        return !gone;
    }
};

/// The address that "127.0.0.1:25000" names.
inline sockaddr_in address_of(const std::string& text) {
    sockaddr_in address{};
    const std::size_t colon = text.rfind(':');
    address.sin_family = AF_INET;
    if (colon == std::string::npos ||
        inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1)
        fail("not an IPv4 address with a port: " + text);
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(text.substr(colon + 1))));
    return address;
}

/// What follows an option: a value of that type, or nothing for a bool.
using OptionValue = std::variant<std::size_t*, double*, int*, bool*>;

/// Reads a program's arguments: options into what is named for them, all else, in order, into
/// `others`, of which the last one may come again.
inline void parse_arguments(int argc, char** argv,
                            const std::map<std::string_view, OptionValue>& options,
                            const std::vector<std::string*>& others) {
    std::size_t seen = 0;
    for (int i = 1; i < argc; ++i) {
        const std::string name = argv[i];
        if (!name.starts_with("--")) {
            *others[std::min(seen++, others.size() - 1)] = name;
            continue;
        }
        const auto option = options.find(name);
        if (option == options.end())
            fail("unknown option " + name);
        if (bool* const* flag = std::get_if<bool*>(&option->second)) {
            **flag = true;
            continue;
        }
        if (++i == argc)
            fail(name + " needs a value");
        std::istringstream text{argv[i]};
        std::visit([&](auto* value) { text >> *value; }, option->second);
        if (!text || !text.eof())
            fail(name + " cannot be " + argv[i]);
    }
}
