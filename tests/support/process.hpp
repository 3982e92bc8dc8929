// What must not touch the other tests runs in a forked child; what goes to stderr can be read.
#pragma once

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sockets.hpp"

namespace trapline::test {

/// Runs `check` in a forked child. Answers the text it returned ("" is well by convention), or
/// how the child died. No kernel may live in this process meanwhile.
template <class F>
std::string in_child(F&& check) {
    Ends report = pipe_ends();
    std::fflush(nullptr);
    const pid_t child = must(::fork(), "fork");
    if (child == 0) {
        std::string text;
        try {
            text = check();
        } catch (const std::exception& failure) {
            text = std::string("thrown: ") + failure.what();
        } catch (...) {
            text = "thrown: something that is no std::exception";
        }
        const char* at = text.data();
        [[maybe_unused]] const ssize_t written = ::write(report.b.get(), at, text.size());
        ::_exit(0);
    }
    report.b = Descriptor{};
    std::string text = read_all(report.a.get());
    int status = 0;
    must(::waitpid(child, &status, 0), "waitpid");
    if (WIFSIGNALED(status))
        text += " (child: signal " + std::to_string(WTERMSIG(status)) + ")";
    else if (status != 0)
        text += " (child: status " + std::to_string(WEXITSTATUS(status)) + ")";
    return text;
}

/// Redirects stderr for as long as it lives.
class CapturedStderr {
public:
    CapturedStderr() {
        std::fflush(stderr);
        must(::dup2(file_.get(), STDERR_FILENO), "dup2");
    }
    CapturedStderr(const CapturedStderr&) = delete;
    CapturedStderr& operator=(const CapturedStderr&) = delete;
    ~CapturedStderr() {
        std::fflush(stderr);
        ::dup2(original_.get(), STDERR_FILENO);
    }

    /// What was written so far.
    std::string text() const {
        std::fflush(stderr);
        std::string all(static_cast<std::size_t>(must(::lseek(file_.get(), 0, SEEK_END), "lseek")),
                        '\0');
        must(::pread(file_.get(), all.data(), all.size(), 0), "pread");
        return all;
    }

private:
    Descriptor original_{must(::dup(STDERR_FILENO), "dup")};
    Descriptor file_{must(::memfd_create("stderr", MFD_CLOEXEC), "memfd_create")};
};

/// At most `count` descriptors, until it goes: the lowest numbers stay usable.
class DescriptorLimit {
public:
    explicit DescriptorLimit(rlim_t count) {
        must(::getrlimit(RLIMIT_NOFILE, &previous_), "getrlimit");
        const rlimit low{count, previous_.rlim_max};
        must(::setrlimit(RLIMIT_NOFILE, &low), "setrlimit");
    }
    DescriptorLimit(const DescriptorLimit&) = delete;
    DescriptorLimit& operator=(const DescriptorLimit&) = delete;
    ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &previous_); }

private:
    rlimit previous_{};
};

} // namespace trapline::test
