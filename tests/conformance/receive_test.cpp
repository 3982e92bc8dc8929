// receive(): buffers that are lent come back, are held by nobody who only waits, and no byte is
// lost when there are too few. The engines here have 2, 4 or 256 of them, or none to share.
#include "conformance.hpp"

#include <algorithm>
#include <array>
#include <random>

using namespace trapline;
using namespace trapline::test;

namespace {

std::string pattern(std::size_t size, unsigned seed) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        bytes[i] = static_cast<char>((i * 31 + seed * 7) % 251);
    return bytes;
}

/// Receives to the end of the stream, and holds each lease for some turns.
Coro<std::string> receive_slowly(int fd, int turns) {
    std::string all;
    for (;;) {
        auto data = co_await traps::receive(fd);
        REQUIRE(data.has_value());
        if (data->empty())
            co_return all;
        for (int turn = 0; turn < turns; ++turn)
            co_await yield_now();
        all += data->text();
    }
}

/// Takes leases that others wait for, so many that there may be none left.
Coro<std::vector<BufferLease>> take_all(const Ends& ends) {
    std::vector<BufferLease> taken;
    for (int n = 0; n < 300; ++n) {
        write_all(ends.b.get(), std::string_view("x"));
        auto lease = co_await ignore_after(2ms, traps::receive(ends.a.get()));
        if (!lease)
            break;
        taken.push_back(std::move(**lease));
    }
    co_return taken;
}

} // namespace

TEST_CASE("P13: when all talk at once nobody loses a byte, whatever the number of buffers") {
    each_io_run([]() -> Coro<void> {
        constexpr unsigned talkers = 60;
        std::vector<Ends> ends;
        std::vector<Task<std::string>> receiving;
        for (unsigned n = 0; n < talkers; ++n) {
            ends.push_back(socket_pair());
            write_all(ends[n].b.get(), pattern(500 + n, n));
            must(::shutdown(ends[n].b.get(), SHUT_WR), "shutdown");
        }
        for (unsigned n = 0; n < talkers; ++n)
            receiving.push_back(
                co_await spawn(receive_slowly(ends[n].a.get(), static_cast<int>(n % 4))));
        for (unsigned n = 0; n < talkers; ++n) {
            const std::string got = co_await receiving[n].join();
            CHECK((got == pattern(500 + n, n)));
        }
    });
}

TEST_CASE("P13: who waits for something to receive holds no buffer") {
    each_io_run([]() -> Coro<void> {
        std::vector<Ends> idle;
        std::vector<Task<std::string>> waiting;
        for (int n = 0; n < 300; ++n) {
            idle.push_back(socket_pair());
            waiting.push_back(co_await spawn(receive_slowly(idle.back().a.get(), 0)));
        }
        co_await let_others_run();
        Ends talking = socket_pair();
        write_all(talking.b.get(), pattern(5000, 1));
        talking.b = Descriptor{};
        CHECK(((co_await receive_slowly(talking.a.get(), 1)) == pattern(5000, 1)));
        for (Ends& ends : idle)
            ends.b = Descriptor{};
        for (Task<std::string>& task : waiting)
            CHECK((co_await task.join()).empty());
    });
}

TEST_CASE("P13: as many buffers are lent at the same time as there are") {
    static constexpr unsigned count = 256;
    for (const char* engine : {"uring", "epoll"}) {
        KernelOptions options{.engine = engine};
        options.uring.receive_buffers = options.epoll.receive_buffers = count;
        run(
            []() -> Coro<void> {
                const Ends ends = socket_pair();
                for (int again = 0; again < 2; ++again) {
                    const std::vector<BufferLease> taken = co_await take_all(ends);
                    CHECK(taken.size() == count);
                    const auto rest = co_await traps::receive(ends.a.get(), MSG_DONTWAIT);
                    CHECK_FALSE(rest.has_value());
                    std::array<std::byte, 1> last;
                    CHECK((co_await traps::recv(ends.a.get(), last)) == 1);
                }
            },
            options);
    }
}

TEST_CASE("P13: all buffers are lent to who comes at the same time, and who does not wait") {
    static constexpr unsigned count = 256;
    static constexpr unsigned at_once = 200;
    for (const char* engine : {"uring", "epoll"}) {
        KernelOptions options{.engine = engine};
        options.uring.receive_buffers = options.epoll.receive_buffers = count;
        run(
            []() -> Coro<void> {
                std::vector<Ends> ends;
                std::vector<Task<BufferLease>> receiving;
                for (unsigned n = 0; n < at_once; ++n) {
                    ends.push_back(socket_pair());
                    receiving.push_back(co_await spawn(
                        [](int fd) -> Coro<BufferLease> {
                            auto data = co_await traps::receive(fd);
                            co_return std::move(data.value());
                        },
                        ends[n].a.get()));
                }
                co_await let_others_run();
                for (unsigned n = 0; n < at_once; ++n)
                    write_all(ends[n].b.get(), pattern(100 + n, n));
                std::vector<BufferLease> taken;
                for (unsigned n = 0; n < at_once; ++n) {
                    taken.push_back(co_await timeout_after(5s, receiving[n].join()));
                    CHECK((taken.back().text() == pattern(100 + n, n)));
                }
                for (unsigned n = at_once; n < count; ++n) {
                    write_all(ends[0].b.get(), std::string_view("x"));
                    auto data = co_await traps::receive(ends[0].a.get(), MSG_DONTWAIT);
                    REQUIRE(data.has_value());
                    taken.push_back(std::move(*data));
                }
                for (unsigned n = 0; n < at_once; ++n) // they are all different ones
                    CHECK((taken[n].text() == pattern(100 + n, n)));
                write_all(ends[0].b.get(), std::string_view("x"));
                const auto too_many = co_await traps::receive(ends[0].a.get(), MSG_DONTWAIT);
                CHECK_FALSE(too_many.has_value());
                taken.clear();
                const auto again = co_await traps::receive(ends[0].a.get(), MSG_DONTWAIT);
                CHECK(again.has_value());
            },
            options);
    }
}

TEST_CASE("P13: a receiver that waits for a buffer goes on as soon as one comes back") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::vector<BufferLease> taken = co_await take_all(ends);
        Ends other = socket_pair();
        write_all(other.b.get(), std::string_view("hello"));
        other.b = Descriptor{};
        Task<std::string> waits = co_await spawn(receive_slowly(other.a.get(), 0));
        co_await let_others_run(10);
        taken.clear();
        CHECK((co_await waits.join()) == "hello");
    });
}

TEST_CASE("P13: who asks not to wait is answered EAGAIN, also when all buffers are lent") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        const auto before = co_await traps::receive(ends.a.get(), MSG_DONTWAIT);
        CHECK(before.error() == std::errc::resource_unavailable_try_again);
        const std::vector<BufferLease> taken = co_await take_all(ends);
        const Ends other = socket_pair();
        const auto nothing = co_await traps::receive(other.a.get(), MSG_DONTWAIT);
        CHECK(nothing.error() == std::errc::resource_unavailable_try_again);
        write_all(other.b.get(), std::string_view("x"));
        const auto some = co_await ignore_after(5s, traps::receive(other.a.get(), MSG_DONTWAIT));
        REQUIRE(some.has_value());
        // Where buffers are not shared there is one.
        if (!*some)
            CHECK(some->error() == std::errc::resource_unavailable_try_again);
    });
}

TEST_CASE("P13: the end of a stream is told while all buffers are lent") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        const std::vector<BufferLease> taken = co_await take_all(ends);
        for (const bool waits : {false, true}) {
            Ends other = waits ? tcp_pair() : socket_pair();
            const Task<std::string> receiver = co_await spawn(receive_slowly(other.a.get(), 0));
            if (waits)
                co_await let_others_run(10);
            other.b = Descriptor{};
            CHECK((co_await timeout_after(5s, receiver.join())).empty());
        }
    });
}

TEST_CASE("P13: a buffer that comes back goes to who has something to receive") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::vector<BufferLease> taken = co_await take_all(ends);
        std::vector<Ends> silent;
        std::vector<Task<std::string>> waiting;
        for (int n = 0; n < 10; ++n) {
            silent.push_back(socket_pair());
            waiting.push_back(co_await spawn(receive_slowly(silent.back().a.get(), 0)));
        }
        co_await let_others_run(10);
        Ends other = socket_pair();
        write_all(other.b.get(), std::string_view("hello"));
        other.b = Descriptor{};
        const Task<std::string> receiver = co_await spawn(receive_slowly(other.a.get(), 0));
        co_await let_others_run(10);
        if (!taken.empty())
            taken.pop_back();
        const std::string got = co_await timeout_after(5s, receiver.join());
        CHECK(got == "hello");
        for (Ends& each : silent)
            each.b = Descriptor{};
        for (const Task<std::string>& task : waiting)
            CHECK((co_await task.join()).empty());
    });
}

TEST_CASE("P13: a receiver that waits for a buffer can be cancelled, and closed") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::vector<BufferLease> taken = co_await take_all(ends);
        Ends other = socket_pair();
        write_all(other.b.get(), std::string_view("hello"));
        Task<std::string> waits = co_await spawn(receive_slowly(other.a.get(), 0));
        co_await let_others_run(10);
        co_await waits.cancel();

        Ends closing = socket_pair();
        write_all(closing.b.get(), std::string_view("hello"));
        int error = 0;
        Task<> receives = co_await spawn(
            [](int fd, int& result) -> Coro<void> {
                auto data = co_await traps::receive(fd);
                result = data ? 0 : data.error().value();
            },
            closing.a.get(), std::ref(error));
        co_await let_others_run(10);
        CHECK((co_await traps::close(closing.a.release())).has_value());
        co_await receives.join();
        CHECK((error == ECANCELED || error == 0)); // 0: where buffers are not shared
        taken.clear();

        // The one who was cancelled had taken nothing, unless he had all of it.
        other.b = Descriptor{};
        const std::string rest = co_await receive_slowly(other.a.get(), 0);
        CHECK((rest == "hello" || rest.empty()));
    });
}

TEST_CASE("P8: a receive that is interrupted at any time has taken nothing, or answers it") {
    each_io_run([]() -> Coro<void> {
        const std::string text = pattern(3000, 5);
        std::mt19937 random{11};
        const Ends ends = socket_pair();
        std::string got;
        std::size_t sent = 0;
        while (got.size() < text.size()) {
            if (sent < text.size() && random() % 2) {
                const std::size_t size = std::min<std::size_t>(random() % 20, text.size() - sent);
                write_all(ends.b.get(), std::string_view(text).substr(sent, size));
                sent += size;
            }
            const Duration limit = std::chrono::microseconds(random() % 30);
            auto lease = co_await ignore_after(limit, traps::receive(ends.a.get()));
            if (lease)
                got += (*lease)->text();
        }
        CHECK((got == text));
    });
}

TEST_CASE("P13: the end of a stream and a reset keep no buffer") {
    each_io_run([]() -> Coro<void> {
        for (int n = 0; n < 300; ++n) {
            Ends ends = n % 2 ? tcp_pair() : socket_pair();
            Task<int> receiving = co_await spawn(
                [](int fd) -> Coro<int> {
                    auto data = co_await traps::receive(fd);
                    CHECK((!data || data->empty()));
                    co_return data ? 0 : data.error().value();
                },
                ends.a.get());
            co_await yield_now();
            if (n % 2)
                reset(std::move(ends.b));
            else
                ends.b = Descriptor{};
            CHECK((co_await receiving.join()) == (n % 2 ? ECONNRESET : 0));
        }
        const Ends ends = socket_pair();
        write_all(ends.b.get(), std::string_view("still"));
        CHECK((co_await traps::receive(ends.a.get())).has_value());
    });
}

TEST_CASE("P12: receive and recv are on the same side of a descriptor") {
    each_io_run([]() -> Coro<void> {
        Ends ends = socket_pair();
        Task<std::string> receiving = co_await spawn(receive_slowly(ends.a.get(), 0));
        co_await let_others_run();
        std::string buffer(8, '\0');
        const auto second = co_await traps::recv(ends.a.get(), bytes_of(buffer));
        CHECK((!second && second.error() == std::errc::device_or_resource_busy));
        const auto third = co_await traps::receive(ends.a.get());
        CHECK((!third && third.error() == std::errc::device_or_resource_busy));
        ends.b = Descriptor{};
        CHECK((co_await receiving.join()).empty());
    });
}
