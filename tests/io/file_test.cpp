#include <trapline/io/file.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/gather.hpp>

#include "../support/leaks.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using test::Ends;
using test::LeakGuard;
using test::must;
namespace fs = std::filesystem;

namespace {

/// A folder of its own, gone with all that is in it when this goes.
class Folder {
public:
    Folder() {
        std::string name = (fs::temp_directory_path() / "trapline-XXXXXX").string();
        if (!::mkdtemp(name.data()))
            throw std::system_error(errno, std::system_category(), "mkdtemp");
        path_ = name;
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }

    std::string operator/(const std::string& name) const { return (path_ / name).string(); }
    std::string path() const { return path_.string(); }

    /// The names in it, sorted.
    std::vector<std::string> names() const {
        std::vector<std::string> all;
        for (const auto& entry : fs::directory_iterator(path_))
            all.push_back(entry.path().filename().string());
        std::sort(all.begin(), all.end());
        return all;
    }

private:
    fs::path path_;
};

using Names = std::vector<std::string>;

void put(const std::string& path, const std::string& text) { std::ofstream{path} << text; }

std::string contents(const std::string& path) {
    std::ifstream file{path};
    return {std::istreambuf_iterator<char>{file}, {}};
}

std::span<std::byte> bytes_of(std::string& text) { return std::as_writable_bytes(std::span(text)); }

std::string pattern(std::size_t size) {
    std::string text(size, '\0');
    std::uint32_t state = 1;
    for (char& c : text)
        c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    return text;
}

/// No file grows beyond `bytes`, until it goes.
class FileSizeLimit {
public:
    explicit FileSizeLimit(rlim_t bytes) {
        handler_ = std::signal(SIGXFSZ, SIG_IGN);
        must(::getrlimit(RLIMIT_FSIZE, &before_), "getrlimit");
        const rlimit small{bytes, before_.rlim_max};
        must(::setrlimit(RLIMIT_FSIZE, &small), "setrlimit");
    }
    FileSizeLimit(const FileSizeLimit&) = delete;
    FileSizeLimit& operator=(const FileSizeLimit&) = delete;
    ~FileSizeLimit() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }

private:
    rlimit before_{};
    void (*handler_)(int) = nullptr;
};

/// What the awaited call complains of: code, text, and how much was done.
struct Complaint {
    std::error_code code;
    std::string text;
    std::size_t progress = 0;
};

template <class A>
Coro<Complaint> complaint_of(A call) {
    try {
        (void)co_await std::move(call);
    } catch (const TransferError& e) {
        co_return Complaint{e.code(), e.what(), e.progress()};
    } catch (const std::system_error& e) {
        co_return Complaint{e.code(), e.what()};
    } catch (const EndOfStream& e) {
        co_return Complaint{{}, e.what(), e.progress()};
    }
    co_return Complaint{};
}

/// Runs a test body, a callable, and checks that it leaves nothing open.
template <class F>
void check(F body) {
    const LeakGuard guard;
    run(std::move(body));
}

int flags_of(const File& file) { return must(::fcntl(file.fd(), F_GETFL), "F_GETFL"); }

} // namespace

// --- open ----------------------------------------------------------------------------------

TEST_CASE("a program appends to a log, then changes it as a whole") {
    const Folder folder;
    const std::string path = folder / "log";
    check([&]() -> Coro<void> {
        File log = co_await File::open(path, O_WRONLY | O_CREAT | O_APPEND);
        co_await log.write_all("started\n");
        co_await log.sync();
        co_await log.close();

        std::string text = co_await read_file(path, 1 << 20);
        co_await write_file(path, text + "ended\n");
    });
    CHECK(contents(path) == "started\nended\n");
    CHECK(folder.names() == Names{"log"});
}

TEST_CASE("a file that is not there is an error that names the operation and the path") {
    const Folder folder;
    check([&]() -> Coro<void> {
        const Complaint missing = co_await complaint_of(File::open(folder / "missing"));
        const Complaint empty = co_await complaint_of(File::open(""));
        const Complaint exists =
            co_await complaint_of(File::open(folder.path(), O_WRONLY | O_CREAT));
        CHECK(missing.code == std::errc::no_such_file_or_directory);
        CHECK(missing.text == "open of " + folder / "missing: No such file or directory");
        CHECK(empty.text == "open of an empty path: No such file or directory");
        CHECK(exists.code == std::errc::is_a_directory);
    });
}

TEST_CASE("a path with a NUL in it is refused, and what stands before the NUL is left alone") {
    const Folder folder;
    put(folder / "a", "precious");
    check([&]() -> Coro<void> {
        const std::string path = folder / std::string("a\0b", 3);
        const Complaint opened = co_await complaint_of(File::open(path, O_WRONLY | O_TRUNC));
        const Complaint beneath = co_await complaint_of(File::open_beneath(AT_FDCWD, path));
        const Complaint read = co_await complaint_of(read_file(path, 100));
        const Complaint written = co_await complaint_of(write_file(path, "new"));
        const std::string text =
            "open of " + folder / "a\\0b, a path with a NUL in it: Invalid argument";
        for (const Complaint& complaint : {opened, beneath, read, written}) {
            CHECK(complaint.code == std::errc::invalid_argument);
            CHECK(complaint.text == text);
        }
    });
    CHECK(contents(folder / "a") == "precious");
}

TEST_CASE("a file is made with the mode that was asked for, and is closed on exec") {
    const Folder folder;
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "new", O_RDWR | O_CREAT | O_EXCL, 0600);
        const FileStatus status = co_await file.stat();
        const Complaint again =
            co_await complaint_of(File::open(folder / "new", O_RDWR | O_CREAT | O_EXCL));
        CHECK(status.permissions == 0600);
        CHECK((::fcntl(file.fd(), F_GETFD) & FD_CLOEXEC) != 0);
        CHECK(file.path() == folder / "new");
        CHECK(again.code == std::errc::file_exists);
    });
}

TEST_CASE("where a regular file is wanted, others are refused without waiting for a peer") {
    const Folder folder;
    put(folder / "file", "text");
    must(::mkfifo((folder / "fifo").c_str(), 0600), "mkfifo");
    check([&]() -> Coro<void> {
        const FileOptions regular{.regular_only = true};
        const Complaint fifo = co_await complaint_of(File::open(folder / "fifo", regular));
        const Complaint directory = co_await complaint_of(File::open(folder.path(), regular));
        const Complaint device = co_await complaint_of(File::open("/dev/null", regular));
        const Complaint written = co_await complaint_of(
            File::open(folder / "fifo", {.flags = O_WRONLY, .regular_only = true}));
        const File file = co_await File::open(folder / "file", regular);
        const FileOptions non_blocking{.flags = O_RDONLY | O_NONBLOCK, .regular_only = true};
        const File kept = co_await File::open(folder / "file", non_blocking);
        CHECK(fifo.code == std::errc::invalid_argument);
        CHECK(fifo.text ==
              "open of " + folder / "fifo, a FIFO and no regular file: Invalid argument");
        CHECK(directory.text ==
              "open of " + folder.path() + ", a directory and no regular file: Is a directory");
        CHECK(device.text.contains("a character device"));
        CHECK(written.code == std::errc::no_such_device_or_address); // nobody reads it
        CHECK((flags_of(file) & O_NONBLOCK) == 0);
        CHECK((flags_of(kept) & O_NONBLOCK) != 0);
    });
}

TEST_CASE("a path without symbolic links is asked for by an option") {
    const Folder folder;
    put(folder / "file", "text");
    fs::create_symlink("file", folder / "link");
    check([&]() -> Coro<void> {
        const FileOptions no_symlinks{.no_symlinks = true};
        const Complaint link = co_await complaint_of(File::open(folder / "link", no_symlinks));
        const File file = co_await File::open(folder / "file", no_symlinks);
        const File followed = co_await File::open(folder / "link");
        CHECK(link.code == std::errc::too_many_symbolic_link_levels);
        CHECK(file);
        CHECK(followed);
    });
}

TEST_CASE("an open that is cancelled leaves nothing open") {
    const Folder folder;
    put(folder / "file", "text");
    check([&]() -> Coro<void> {
        for (int turns = 0; turns < 4; ++turns) {
            Task<File> opening = co_await spawn(
                [&]() { return File::open(folder / "file", {.regular_only = true}); });
            for (int i = 0; i < turns; ++i)
                co_await yield_now();
            co_await opening.cancel();
        }
    });
}

// --- open_beneath --------------------------------------------------------------------------

TEST_CASE("beneath a directory, what is in it can be opened, and nothing else") {
    const Folder folder;
    fs::create_directories(folder / "root/sub");
    put(folder / "secret", "secret");
    put(folder / "root/page", "page");
    fs::create_symlink("../page", folder / "root/sub/inside");
    fs::create_symlink("../../secret", folder / "root/sub/outside");
    fs::create_symlink(folder / "root/page", folder / "root/absolute");
    check([&]() -> Coro<void> {
        const File root = co_await File::open(folder / "root", O_PATH | O_DIRECTORY);
        for (const char* path : {"page", "sub/../page", "./page", "sub/inside"}) {
            File file = co_await File::open_beneath(root.fd(), path);
            std::string text(10, ' ');
            const std::size_t n = co_await file.read(bytes_of(text));
            CHECK(text.substr(0, n) == "page");
        }
        for (const char* path :
             {"../secret", "sub/../../secret", "/etc/passwd", "sub/outside", "absolute"}) {
            const Complaint out = co_await complaint_of(File::open_beneath(root.fd(), path));
            CAPTURE(path);
            CHECK(out.code == std::errc::cross_device_link);
            CHECK(out.text == std::string("open of ") + path +
                                  ", which leads out of its directory: Invalid cross-device link");
        }
        const Complaint missing = co_await complaint_of(File::open_beneath(root.fd(), "missing"));
        const Complaint link = co_await complaint_of(
            File::open_beneath(root.fd(), "sub/inside", {.no_symlinks = true}));
        const Complaint closed = co_await complaint_of(File::open_beneath(-1, "page"));
        CHECK(missing.text == "open of missing: No such file or directory");
        CHECK(link.code == std::errc::too_many_symbolic_link_levels);
        CHECK(closed.code == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("beneath /proc, links that lead to open files are refused") {
    check([]() -> Coro<void> {
        const File self = co_await File::open("/proc/self", O_RDONLY | O_DIRECTORY);
        const Complaint magic = co_await complaint_of(File::open_beneath(self.fd(), "cwd"));
        const Complaint through = co_await complaint_of(File::open_beneath(self.fd(), "cwd/x"));
        CHECK(magic.code == std::errc::too_many_symbolic_link_levels);
        CHECK(through.code == std::errc::too_many_symbolic_link_levels);
    });
}

TEST_CASE("beneath a directory a file is made with its mode, and a mode without need is no error") {
    const Folder folder;
    check([&]() -> Coro<void> {
        const File root = co_await File::open(folder.path(), O_RDONLY | O_DIRECTORY);
        File made = co_await File::open_beneath(
            root.fd(), "new", {.flags = O_WRONLY | O_CREAT, .mode = 0640, .regular_only = true});
        co_await made.write_all("made");
        const FileStatus status = co_await made.stat();
        File unnamed = co_await File::open_beneath(root.fd(), ".",
                                                   {.flags = O_RDWR | O_TMPFILE, .mode = 0600});
        co_await unnamed.write_all("x");
        const File again = co_await File::open_beneath(root.fd(), "new", {.mode = 0777});
        CHECK(status.permissions == (0640 & ~::umask(0022)));
        CHECK(again);
        CHECK((::fcntl(again.fd(), F_GETFD) & FD_CLOEXEC) != 0);
    });
    CHECK(contents(folder / "new") == "made");
    CHECK(folder.names() == Names{"new"});
}

// --- reading and writing -------------------------------------------------------------------

TEST_CASE("reads and writes go on where the last one ended") {
    const Folder folder;
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "file", O_RDWR | O_CREAT);
        const std::size_t first = co_await file.write("hello ");
        const std::size_t second = co_await file.write("world");
        const std::uint64_t start = file.seek(0);
        std::string text(8, ' ');
        const std::size_t head = co_await file.read(bytes_of(text));
        const std::string began = text.substr(0, head);
        const std::size_t tail = co_await file.read(bytes_of(text));
        const std::string ended = text.substr(0, tail);
        const std::size_t end = co_await file.read(bytes_of(text));
        const std::size_t still = co_await file.read(bytes_of(text));
        CHECK(first == 6);
        CHECK(second == 5);
        CHECK(start == 0);
        CHECK(began == "hello wo");
        CHECK(ended == "rld");
        CHECK(end == 0);
        CHECK(still == 0);
    });
}

TEST_CASE("reads and writes at an offset leave the position where it is, and run side by side") {
    const Folder folder;
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "file", O_RDWR | O_CREAT);
        co_await file.write_all("0123456789");
        const std::size_t written = co_await file.write_at("AB", 2);
        std::string a(4, ' ');
        std::string b(4, ' ');
        const auto reads = [](File& from, std::string& into,
                              std::uint64_t at) -> Coro<std::size_t> {
            co_return co_await from.read_at(bytes_of(into), at);
        };
        const auto both = co_await gather(reads(file, a, 0), reads(file, b, 8));
        const std::uint64_t position = file.seek(0, SEEK_CUR);
        CHECK(written == 2);
        CHECK(std::get<0>(both) == 4);
        CHECK(std::get<1>(both) == 2);
        CHECK(a == "01AB");
        CHECK(b == "89  ");
        CHECK(position == 10);
    });
}

TEST_CASE("an offset that no file has is refused, and is not taken for the position") {
    const Folder folder;
    put(folder / "file", "text");
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "file", O_RDWR);
        std::string text(4, ' ');
        for (const std::uint64_t offset :
             {std::numeric_limits<std::uint64_t>::max(), std::uint64_t{1} << 63}) {
            const Complaint read = co_await complaint_of(file.read_at(bytes_of(text), offset));
            const Complaint written = co_await complaint_of(file.write_at("new", offset));
            CHECK(read.code == std::errc::invalid_argument);
            CHECK(read.text == "read of " + folder / "file: Invalid argument");
            CHECK(written.text == "write to " + folder / "file: Invalid argument");
        }
        const Complaint longer =
            co_await complaint_of(file.truncate(std::numeric_limits<std::uint64_t>::max()));
        CHECK(longer.code == std::errc::invalid_argument);
        CHECK(text == "    ");
    });
    CHECK(contents(folder / "file") == "text");
}

TEST_CASE("nothing to read or to write asks nobody") {
    check([]() -> Coro<void> {
        const Ends pipe = test::pipe_ends();
        File reads{Descriptor{must(::dup(pipe.a.get()), "dup")}, "pipe"};
        File writes{Descriptor{must(::dup(pipe.b.get()), "dup")}, "pipe"};
        const auto read = co_await ignore_after(20ms, reads.read({}));
        const std::size_t written = co_await writes.write("");
        co_await writes.write_all("");
        const std::size_t exactly = co_await reads.read_exactly_at({}, 0);
        CHECK(read == 0);
        CHECK(written == 0);
        CHECK(exactly == 0);
    });
}

TEST_CASE("a large file is written and read byte for byte") {
    const Folder folder;
    const std::string data = pattern(4 << 20);
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "file", O_RDWR | O_CREAT);
        co_await file.write_all(data);
        co_await file.write_all_at(data, data.size());
        std::string back(data.size(), '\0');
        const std::size_t first = co_await file.read_exactly_at(bytes_of(back), 0);
        const bool same = back == data;
        const std::size_t second = co_await file.read_exactly_at(bytes_of(back), data.size());
        const bool same_again = back == data;
        const std::uint64_t size = co_await file.size();
        CHECK(first == data.size());
        CHECK(second == data.size());
        CHECK(same);
        CHECK(same_again);
        CHECK(size == 2 * data.size());
    });
}

TEST_CASE("read_exactly_at tells a file that ends in between from one that ended before") {
    const Folder folder;
    put(folder / "file", "0123456789");
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "file");
        std::string text(4, ' ');
        const std::size_t whole = co_await file.read_exactly_at(bytes_of(text), 6);
        const std::string last = text;
        const std::size_t behind = co_await file.read_exactly_at(bytes_of(text), 10);
        const Complaint half = co_await complaint_of(file.read_exactly_at(bytes_of(text), 8));
        File folder_file = co_await File::open(folder.path());
        const Complaint directory =
            co_await complaint_of(folder_file.read_exactly_at(bytes_of(text), 0));
        CHECK(whole == 4);
        CHECK(last == "6789");
        CHECK(behind == 0);
        CHECK(half.text == "read of " + folder / "file: the file ended after 2 of 4 bytes");
        CHECK(half.progress == 2);
        CHECK(text.substr(0, 2) == "89");
        CHECK(directory.text == "read of " + folder.path() + ": Is a directory");
    });
}

TEST_CASE("write_all that fails half way says why, and how much is written") {
    check([]() -> Coro<void> {
        constexpr std::size_t room = 8192;
        const int fd = must(::memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd");
        File file{Descriptor{fd}, "sealed"};
        must(::ftruncate(fd, room), "ftruncate");
        must(::fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), "F_ADD_SEALS");
        const std::string data = pattern(3 * room);
        const Complaint at_position = co_await complaint_of(file.write_all(data));
        const Complaint at_offset = co_await complaint_of(file.write_all_at(data, 4096));
        std::string back(room, '\0');
        co_await file.read_exactly_at(bytes_of(back), 0);
        CHECK(at_position.code == std::errc::operation_not_permitted);
        CHECK(at_position.text == "write to sealed: Operation not permitted");
        CHECK(at_position.progress == room);
        CHECK(file.seek(0, SEEK_CUR) == room); // Linux had left it at 0
        CHECK(at_offset.progress == room - 4096);
        CHECK(back == data.substr(0, 4096) + data.substr(0, 4096));
    });
}

TEST_CASE("a short write moves the position by what was written, also where it appends") {
    check([]() -> Coro<void> {
        constexpr std::size_t room = 8192;
        const Folder folder;
        const FileSizeLimit limit{room};
        const std::string data = pattern(3 * room);
        File file = co_await File::open(folder / "file", O_RDWR | O_CREAT);
        file.seek(100);
        const std::size_t written = co_await file.write(data);
        const std::uint64_t position = file.seek(0, SEEK_CUR);
        File log = co_await File::open(folder / "log", O_RDWR | O_CREAT | O_APPEND);
        co_await log.write_all("12345");
        log.seek(2);
        const std::size_t appended = co_await log.write(data);
        const std::uint64_t end = log.seek(0, SEEK_CUR);
        CHECK(written == room - 100);
        CHECK(position == room);
        CHECK(appended == room - 5);
        CHECK(end == room);
    });
}

TEST_CASE("write_all that is cancelled half way says how much is written, and loses nothing") {
    check([]() -> Coro<void> {
        const Ends pipe = test::pipe_ends();
        File file{Descriptor{must(::dup(pipe.b.get()), "dup")}, "pipe"};
        const std::string data = pattern(1 << 20);
        std::size_t progress = 0;
        const auto writes = [](File& to, const std::string& all, std::size_t& done) -> Coro<void> {
            try {
                co_await to.write_all(all);
            } catch (const Cancelled& interrupt) {
                done = interrupt.progress();
                throw;
            }
        };
        Task<> writer = co_await spawn(writes(file, data, progress));
        std::string received(100'000, '\0');
        File reads{Descriptor{must(::dup(pipe.a.get()), "dup")}, "pipe"};
        std::size_t got = 0;
        while (got < 90'000)
            got += co_await reads.read(bytes_of(received).subspan(got));
        co_await yield_now();
        const bool cancelled = co_await writer.cancel();
        co_await file.close();
        must(::fcntl(pipe.b.get(), F_SETFL, O_NONBLOCK), "F_SETFL");
        std::string rest(data.size(), '\0');
        const std::size_t left = test::bytes_waiting(pipe.a.get());
        CHECK(cancelled);
        CHECK(progress == got + left);
        CHECK(progress < data.size());
        CHECK(received.substr(0, got) == data.substr(0, got));
    });
}

TEST_CASE("write_all to a pipe that nobody reads any more fails, and names what it wrote to") {
    check([]() -> Coro<void> {
        Ends pipe = test::pipe_ends();
        File file{std::move(pipe.b), "pipe"};
        const std::string data = pattern(1 << 20);
        const auto writes = [](File& to, const std::string& all) {
            return complaint_of(to.write_all(all));
        };
        Task<Complaint> writer = co_await spawn(writes(file, data));
        co_await yield_now();
        co_await yield_now();
        const std::size_t in_pipe = test::bytes_waiting(pipe.a.get());
        pipe.a = Descriptor{};
        const Complaint complaint = co_await writer.join();
        CHECK(complaint.text == "write to pipe: Broken pipe");
        CHECK(complaint.progress == in_pipe);
        CHECK(in_pipe > 0);
    });
}

TEST_CASE("a read that is cancelled has taken nothing, and a second reader is refused") {
    check([]() -> Coro<void> {
        Ends pipe = test::pipe_ends();
        File reads{std::move(pipe.a), "pipe"};
        std::string text(5, ' ');
        const auto waits = [](File& file, std::string& into) -> Coro<std::size_t> {
            co_return co_await file.read(bytes_of(into));
        };
        Task<std::size_t> reader = co_await spawn(waits(reads, text));
        co_await yield_now();
        co_await yield_now();
        std::string other(5, ' ');
        const Complaint second = co_await complaint_of(reads.read(bytes_of(other)));
        const bool cancelled = co_await reader.cancel();
        must(::write(pipe.b.get(), "hello", 5), "write");
        const std::size_t n = co_await reads.read(bytes_of(text));
        CHECK(second.text == "read of pipe: Device or resource busy");
        CHECK(cancelled);
        CHECK(n == 5);
        CHECK(text == "hello");
    });
}

TEST_CASE("whatever is done to a file may be cut off at any point, and loses nothing by it") {
    const Folder folder;
    const std::string data = pattern(1 << 16);
    check([&]() -> Coro<void> {
        const auto works = [](std::string path, const std::string& text) -> Coro<void> {
            File file = co_await File::open(path, O_RDWR | O_CREAT | O_TRUNC);
            co_await file.write_all(text);
            std::string back(text.size(), '\0');
            co_await file.read_exactly_at(bytes_of(back), 0);
            co_await file.sync();
            co_await file.truncate(10);
            co_await file.stat();
            co_await file.close();
        };
        for (int turns = 0; turns < 12; ++turns) {
            Task<> worker = co_await spawn(works(folder / "file", data));
            for (int i = 0; i < turns; ++i)
                co_await yield_now();
            co_await worker.cancel();
        }
    });
    const std::string left = contents(folder / "file");
    CHECK(left == data.substr(0, left.size()));
}

// --- the rest ------------------------------------------------------------------------------

TEST_CASE("stat tells what the file is, how large and since when") {
    const Folder folder;
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "file", O_RDWR | O_CREAT, 0600);
        co_await file.write_all("12345");
        const FileStatus status = co_await file.stat();
        const std::uint64_t size = co_await file.size();
        File parent = co_await File::open(folder.path());
        const FileStatus directory = co_await parent.stat();
        const auto age = std::chrono::system_clock::now() - status.modified;
        CHECK(status.kind == FileKind::regular);
        CHECK(status.size == 5);
        CHECK(size == 5);
        CHECK(status.links == 1);
        CHECK(status.user == ::geteuid());
        CHECK(age > -10s);
        CHECK(age < 60s);
        CHECK(directory.kind == FileKind::directory);
        CHECK(directory.inode != status.inode);
        CHECK(directory.device == status.device);
    });
}

TEST_CASE("truncate cuts off and fills up, and says what it could not") {
    const Folder folder;
    put(folder / "file", "0123456789");
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "file", O_RDWR);
        co_await file.truncate(3);
        const std::uint64_t shorter = co_await file.size();
        co_await file.truncate(5);
        const std::uint64_t longer = co_await file.size();
        File read_only = co_await File::open(folder / "file");
        const Complaint refused = co_await complaint_of(read_only.truncate(1));
        CHECK(shorter == 3);
        CHECK(longer == 5);
        CHECK(refused.text == "truncate of " + folder / "file: Invalid argument");
    });
    CHECK(contents(folder / "file") == std::string("012\0\0", 5));
}

TEST_CASE("a cancellation waits until truncate is over") {
    const Folder folder;
    put(folder / "file", "0123456789");
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "file", O_RDWR);
        const auto cuts = [](File& what, bool& done) -> Coro<void> {
            co_await what.truncate(4);
            done = true;
            co_await sleep(Duration::max());
        };
        bool done = false;
        Task<> task = co_await spawn(cuts(file, done));
        co_await yield_now();
        const bool cancelled = co_await task.cancel();
        const std::uint64_t size = co_await file.size();
        CHECK(done);
        CHECK(cancelled);
        CHECK(size == 4);
    });
}

TEST_CASE("seek moves the position, and says what it could not") {
    const Folder folder;
    put(folder / "file", "0123456789");
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "file");
        CHECK(file.seek(4) == 4);
        CHECK(file.seek(2, SEEK_CUR) == 6);
        CHECK(file.seek(-1, SEEK_END) == 9);
        std::string text(4, ' ');
        const std::size_t n = co_await file.read(bytes_of(text));
        CHECK(n == 1);
        CHECK(text[0] == '9');
        const std::string refused = "seek in " + folder / "file: Invalid argument";
        CHECK_THROWS_WITH_AS(file.seek(-1), refused.c_str(), std::system_error);
        CHECK(file.seek(0, SEEK_CUR) == 10);
    });
}

TEST_CASE("sync waits for the disk, and says where there is none") {
    const Folder folder;
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "file", O_WRONLY | O_CREAT);
        co_await file.write_all("text");
        co_await file.sync();
        co_await file.sync(true);
        File pipe{test::pipe_ends().b, "pipe"};
        const Complaint refused = co_await complaint_of(pipe.sync());
        CHECK(refused.text == "sync of pipe: Invalid argument");
    });
}

TEST_CASE("close ends what another task waits for, and is harmless twice") {
    check([]() -> Coro<void> {
        Ends pipe = test::pipe_ends();
        File file{std::move(pipe.a), "pipe"};
        const auto waits = [](File& from) -> Coro<Complaint> {
            std::string text(5, ' ');
            co_return co_await complaint_of(from.read(bytes_of(text)));
        };
        Task<Complaint> reader = co_await spawn(waits(file));
        co_await yield_now();
        co_await yield_now();
        co_await file.close();
        co_await file.close();
        const Complaint ended = co_await reader.join();
        CHECK(ended.code == std::errc::operation_canceled);
        CHECK(ended.text.starts_with("read of pipe, a file that was closed here: "));
        CHECK_FALSE(file);
        CHECK(file.fd() == -1);
        CHECK(file.path() == "pipe");
    });
}

TEST_CASE("whatever is asked of a closed file is refused, and says so") {
    const Folder folder;
    put(folder / "file", "text");
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "file", O_RDWR);
        co_await file.close();
        std::string text(4, ' ');
        const std::string end = folder / "file, a file that was closed here: Bad file descriptor";
        const Complaint read = co_await complaint_of(file.read(bytes_of(text)));
        const Complaint exactly = co_await complaint_of(file.read_exactly_at(bytes_of(text), 0));
        const Complaint write = co_await complaint_of(file.write("x"));
        const Complaint write_all = co_await complaint_of(file.write_all("x"));
        const Complaint stat = co_await complaint_of(file.stat());
        const Complaint size = co_await complaint_of(file.size());
        const Complaint sync = co_await complaint_of(file.sync());
        const Complaint truncate = co_await complaint_of(file.truncate(0));
        CHECK(read.text == "read of " + end);
        CHECK(exactly.text == "read of " + end);
        CHECK(write.text == "write to " + end);
        CHECK(write_all.text == "write to " + end);
        CHECK(stat.text == "stat of " + end);
        CHECK(size.text == "stat of " + end);
        CHECK(sync.text == "sync of " + end);
        CHECK(truncate.text == "truncate of " + end);
        CHECK_THROWS_AS(file.seek(0), std::system_error);
    });
}

TEST_CASE("a file moves from hand to hand, and is closed with the last one") {
    const Folder folder;
    put(folder / "file", "text");
    check([&]() -> Coro<void> {
        File file = co_await File::open(folder / "file");
        File other = std::move(file);
        CHECK_FALSE(file); // NOLINT(bugprone-use-after-move)
        CHECK(other);
        file = std::move(other);
        CHECK(file);
        CHECK(file.path() == folder / "file");
    });
}

// --- read_file -----------------------------------------------------------------------------

TEST_CASE("read_file answers all there is, also of files that do not know their size") {
    const Folder folder;
    const std::string large = pattern(300'000);
    put(folder / "large", large);
    put(folder / "empty", "");
    check([&]() -> Coro<void> {
        const std::string all = co_await read_file(folder / "large", 1 << 20);
        const std::string nothing = co_await read_file(folder / "empty", 0);
        const std::string status = co_await read_file("/proc/self/status", 1 << 20);
        const std::string unlimited =
            co_await read_file(folder / "large", std::numeric_limits<std::size_t>::max());
        CHECK((all == large));
        CHECK((unlimited == large));
        CHECK(nothing == "");
        CHECK(status.starts_with("Name:"));
        CHECK(status.ends_with("\n"));
    });
}

TEST_CASE("read_file takes as much as it may, and refuses more") {
    const Folder folder;
    put(folder / "file", std::string(10'000, 'x'));
    check([&]() -> Coro<void> {
        const std::string just = co_await read_file(folder / "file", 10'000);
        const Complaint more = co_await complaint_of(read_file(folder / "file", 9'999));
        const Complaint unknown = co_await complaint_of(read_file("/proc/self/status", 10));
        CHECK(just.size() == 10'000);
        CHECK(more.code == std::errc::file_too_large);
        CHECK(more.text ==
              "read of " + folder / "file, a file of more than 9999 bytes: File too large");
        CHECK(unknown.code == std::errc::file_too_large);
    });
}

TEST_CASE("read_file refuses what is no regular file, and does not wait for it") {
    const Folder folder;
    must(::mkfifo((folder / "fifo").c_str(), 0600), "mkfifo");
    check([&]() -> Coro<void> {
        const Complaint fifo = co_await complaint_of(read_file(folder / "fifo", 100));
        const Complaint directory = co_await complaint_of(read_file(folder.path(), 100));
        CHECK(fifo.text.contains("a FIFO and no regular file"));
        CHECK(directory.code == std::errc::is_a_directory);
    });
}

// --- write_file ----------------------------------------------------------------------------

TEST_CASE("write_file makes a file, and replaces one without touching those who have it open") {
    const Folder folder;
    check([&]() -> Coro<void> {
        co_await write_file(folder / "file", "old", 0600);
        File reader = co_await File::open(folder / "file");
        const FileStatus before = co_await reader.stat();
        co_await write_file(folder / "file", "new contents");
        std::string text(20, ' ');
        const std::size_t n = co_await reader.read(bytes_of(text));
        File now = co_await File::open(folder / "file");
        const FileStatus after = co_await now.stat();
        CHECK(text.substr(0, n) == "old");
        CHECK(before.inode != after.inode);
        CHECK(before.permissions == 0600);
        CHECK(after.permissions == 0600); // kept
    });
    CHECK(contents(folder / "file") == "new contents");
    CHECK(folder.names() == Names{"file"});
}

TEST_CASE("write_file keeps permissions that the umask would take away") {
    const Folder folder;
    put(folder / "script", "old");
    must(::chmod((folder / "script").c_str(), 0777), "chmod");
    check([&]() -> Coro<void> { co_await write_file(folder / "script", "new"); });
    CHECK((fs::status(folder / "script").permissions() & fs::perms::all) == fs::perms::all);
}

TEST_CASE("while write_file replaces a secret, nobody else can read it") {
    const Folder folder;
    put(folder / "secret", "old");
    must(::chmod((folder / "secret").c_str(), 0600), "chmod");
    int seen = 0;
    int readable = 0;
    check([&]() -> Coro<void> {
        const Task<> writer = co_await spawn(write_file(folder / "secret", pattern(100'000)));
        while (!writer.terminated()) {
            for (const std::string& name : folder.names()) {
                struct ::stat status;
                if (::stat((folder / name).c_str(), &status) != 0)
                    continue; // renamed this moment
                seen += name != "secret";
                readable += (status.st_mode & 077) != 0;
            }
            co_await yield_now();
        }
    });
    CHECK(seen > 0);
    CHECK(readable == 0);
}

TEST_CASE("write_file replaces a symbolic link, and leaves alone what it led to") {
    const Folder folder;
    put(folder / "target", "target");
    fs::create_symlink("target", folder / "link");
    check([&]() -> Coro<void> { co_await write_file(folder / "link", "new"); });
    CHECK_FALSE(fs::is_symlink(folder / "link"));
    CHECK(contents(folder / "link") == "new");
    CHECK(contents(folder / "target") == "target");
}

TEST_CASE("write_file takes a path in the working directory, or in the root") {
    const Folder folder;
    const fs::path before = fs::current_path();
    fs::current_path(folder.path());
    check([]() -> Coro<void> {
        co_await write_file("here", "x");
        const Complaint root = co_await complaint_of(write_file("/proc", "x"));
        CHECK(root.code == std::errc::is_a_directory);
    });
    fs::current_path(before);
    CHECK(contents(folder / "here") == "x");
    CHECK(folder.names() == Names{"here"});
}

TEST_CASE("write_file needs no permission to list the directory, but one to write into it") {
    constexpr uid_t nobody = 65534;
    const Folder folder;
    const bool is_root = ::geteuid() == 0;
    if (is_root) { // who may do everything
        must(::chown(folder.path().c_str(), nobody, nobody), "chown");
        must(::seteuid(nobody), "seteuid");
    }
    Complaint unlisted;
    Complaint unwritable;
    check([&]() -> Coro<void> {
        must(::chmod(folder.path().c_str(), 0300), "chmod");
        unlisted = co_await complaint_of(write_file(folder / "file", "new"));
        must(::chmod(folder.path().c_str(), 0500), "chmod");
        unwritable = co_await complaint_of(write_file(folder / "other", "new"));
        must(::chmod(folder.path().c_str(), 0700), "chmod");
    });
    if (is_root)
        must(::seteuid(0), "seteuid");
    CHECK(unlisted.text == "");
    CHECK(unwritable.text == "open of " + folder / "other: Permission denied");
    CHECK(contents(folder / "file") == "new");
    CHECK(folder.names() == Names{"file"});
}

TEST_CASE("write_file that fails leaves the old contents and nothing else") {
    const Folder folder;
    fs::create_directory(folder / "directory");
    check([&]() -> Coro<void> {
        const Complaint directory = co_await complaint_of(write_file(folder / "directory", "x"));
        const Complaint slash = co_await complaint_of(write_file(folder / "directory/", "x"));
        const Complaint nowhere = co_await complaint_of(write_file(folder / "missing/file", "x"));
        const Complaint empty = co_await complaint_of(write_file("", "x"));
        CHECK(directory.text == "open of " + folder / "directory: Is a directory");
        CHECK(slash.code == std::errc::is_a_directory);
        CHECK(nowhere.text == "open of " + folder / "missing/file: No such file or directory");
        CHECK(empty.text == "open of an empty path: No such file or directory");
    });
    CHECK(folder.names() == Names{"directory"});
}

TEST_CASE("write_file without room leaves the old contents and nothing else") {
    const Folder folder;
    put(folder / "file", "old");
    check([&]() -> Coro<void> {
        const FileSizeLimit limit{4096};
        const Complaint complaint =
            co_await complaint_of(write_file(folder / "file", pattern(10'000)));
        CHECK(complaint.text == "write to " + folder / "file: File too large");
        CHECK(complaint.progress == 4096);
    });
    CHECK(contents(folder / "file") == "old");
    CHECK(folder.names() == Names{"file"});
}

TEST_CASE("write_file that is cancelled at any point leaves the old contents or the new") {
    const Folder folder;
    const std::string old_contents = "old";
    const std::string new_contents = pattern(100'000);
    int kept = 0;
    for (int turns = 0; turns < 20; ++turns) {
        put(folder / "file", old_contents);
        check([&]() -> Coro<void> {
            Task<> writer = co_await spawn(write_file(folder / "file", new_contents));
            for (int i = 0; i < turns; ++i)
                co_await yield_now();
            co_await writer.cancel();
        });
        const std::string now = contents(folder / "file");
        CHECK((now == old_contents || now == new_contents));
        CHECK(folder.names() == Names{"file"});
        kept += now == old_contents;
    }
    CHECK(kept > 0);
}
