// What a byte of a file costs that is sent over loopback TCP from the page cache, by each way that
// sendfile() of io/splice.hpp could take: read and sent in pieces, or spliced through a pipe, which
// a worker thread fills. Beside it sendfile() itself, and sendfile(2), which may wait for a disk
// and is the floor. The sink reads all that comes.
//
//     server_sendfile [--bytes TOTAL]
//
// The sender runs where it is started, the sink on core 1. The last line, RESULT {...}, is for
// programs.
#include <cstdlib>
#include <exception>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sys/sendfile.h>
#include <trapline/trapline.hpp>

#include "sink.hpp"

using namespace trapline;

namespace {

constexpr std::uint64_t file_bytes = 16 << 20;

/// Read once, so that it is in the page cache.
int cached_file() {
    char path[] = "/tmp/trapline-sendfile-XXXXXX";
    const int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        fail(path, errno);
    unlink(path);
    const std::vector<char> text(file_bytes, 's');
    if (pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
        fsync(fd) != 0)
        fail("write", errno);
    std::vector<char> read_back(file_bytes);
    if (pread(fd, read_back.data(), read_back.size(), 0) != static_cast<ssize_t>(file_bytes))
        fail("read", errno);
    return fd;
}

struct Job {
    int file;
    TcpStream& to;
    std::size_t size;
    std::uint64_t total;
};

/// Reads and sends, at most `piece` bytes at a time, from memory that is new for each request.
Coro<void> copied(Job job, std::size_t piece) {
    for (std::uint64_t sent = 0; sent < job.total; sent += job.size) {
        const std::size_t room = std::min(piece, job.size);
        const auto memory = std::make_unique_for_overwrite<std::byte[]>(room);
        for (std::size_t at = 0; at < job.size;) {
            const std::span buffer(memory.get(), std::min(room, job.size - at));
            const auto answer =
                co_await traps::read(job.file, buffer, static_cast<std::int64_t>(at));
            const std::size_t got = answer.value();
            co_await job.to.send_all(std::span<const std::byte>(buffer.first(got)));
            at += got;
        }
    }
}

/// Splices by way of a pipe that is new for each request. `flags` of the half that reads the file.
Coro<void> spliced(Job job, std::size_t piece, unsigned flags) {
    for (std::uint64_t sent = 0; sent < job.total; sent += job.size) {
        Pipe pipe = co_await Pipe::open();
        fcntl(pipe.writer.fd(), F_SETPIPE_SZ, static_cast<int>(piece));
        for (std::size_t at = 0; at < job.size;) {
            const auto answer =
                co_await traps::splice(job.file, pipe.writer.fd(), std::min(piece, job.size - at),
                                       static_cast<std::int64_t>(at), -1, flags);
            at += answer.value();
            for (std::size_t left = answer.value(); left > 0;) {
                const auto out = co_await traps::splice(pipe.reader.fd(), job.to.fd(), left, -1, -1,
                                                        SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
                if (out)
                    left -= *out;
                else if (out.error() == std::errc::resource_unavailable_try_again)
                    (void)co_await traps::write_wait(job.to.fd());
                else
                    throw std::system_error(out.error(), "splice");
            }
        }
        // Closed at once: a trap for each would cost more than it does.
    }
}

Coro<void> by_library(Job job) {
    for (std::uint64_t sent = 0; sent < job.total; sent += job.size)
        co_await sendfile(job.to, job.file, 0, job.size);
}

Coro<void> by_call(Job job) {
    for (std::uint64_t sent = 0; sent < job.total; sent += job.size) {
        off_t at = 0;
        while (static_cast<std::size_t>(at) < job.size) {
            const auto left = job.size - static_cast<std::size_t>(at);
            if (::sendfile(job.to.fd(), job.file, &at, left) < 0 && errno != EINTR) {
                if (errno != EAGAIN)
                    throw std::system_error(errno, std::system_category(), "sendfile");
                (void)co_await traps::write_wait(job.to.fd());
            }
        }
    }
}

void measure(const Sink& sink, std::uint64_t total) {
    Kernel kernel;
    TcpStream to{Descriptor{sink.fd()}, SocketAddress{}};
    fcntl(to.fd(), F_SETFL, fcntl(to.fd(), F_GETFL) | O_NONBLOCK);
    const int file = cached_file();
    Costs costs;
    for (std::size_t size = 4096; size <= file_bytes; size *= 2) {
        const Job job{file, to, size, total};
        const auto row = [&](const char* way, auto coroutine) {
            costs.add(cost_of(sink, size, way, total, [&] { kernel.run(coroutine()); }));
        };
        row("copy 64 KiB", [&] { return copied(job, 64 * 1024); });
        row("copy 256 KiB", [&] { return copied(job, 256 * 1024); });
        row("splice 256 KiB", [&] { return spliced(job, 256 * 1024, 0); });
        row("splice no worker", [&] { return spliced(job, 256 * 1024, SPLICE_F_NONBLOCK); });
        row("sendfile()", [&] { return by_library(job); });
        row("sendfile(2)", [&] { return by_call(job); });
    }
    costs.print();
    (void)to.release().release();
}

} // namespace

int main(int argc, char** argv) {
    std::uint64_t total = std::uint64_t{32} << 20;
    if (argc == 3 && std::string_view(argv[1]) == "--bytes")
        total = std::strtoull(argv[2], nullptr, 10);
    else if (argc != 1)
        fail("sendfile [--bytes TOTAL]");
    if (total == 0 || total % file_bytes != 0)
        fail("--bytes must be a multiple of 16 MiB");
    try {
        const Sink sink{total};
        measure(sink, total);
    } catch (const std::exception& failure) {
        fail(failure.what());
    }
}
