// The load on a proxy: connections to it that send all the time, in large pieces, and the sink that
// it is a proxy for. What arrives before and after the measured stretch is compared byte by byte;
// within, it is counted and thrown away unread, so that the proxy is what limits. In the end every
// connection must have brought what was sent, and its end. One thread on epoll, no Trapline.
//
//     server_load_stream PROXY SINK [--connections 1] [--piece 262144] [--seconds 1]
//                        [--warm-up 0.2] [--pid PROXY_PROCESS]
//
// With --pid the processor time of the proxy and of its child processes is taken over the same
// stretch of time, and what the host and other processes took away from it. The last line,
// RESULT {...}, is for programs.
#include <random>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "measured.hpp"

namespace {

constexpr std::uint64_t GiB = std::uint64_t{1} << 30;

struct Options {
    std::string proxy;
    std::string sink;
    std::size_t connections = 1;
    std::size_t piece = 256 * 1024;
    double seconds = 1;
    double warm_up = 0.2;
    int pid = 0;
};

/// The bytes of a connection: a table again and again, from a place of its own on. The first eight
/// are the connection's number.
class Text {
public:
    explicit Text(std::size_t piece) : piece_(piece), bytes_(places + piece) {
        std::mt19937_64 dice{42};
        std::generate_n(bytes_.begin(), places, [&] { return static_cast<char>(dice()); });
        std::copy_n(bytes_.begin(), piece, bytes_.begin() + places);
    }
    /// At least a piece is there.
    const char* at(std::uint64_t connection, std::uint64_t position) const {
        return &bytes_[(connection * 40'503 + position) % places];
    }
    std::size_t piece() const { return piece_; }

private:
    static constexpr std::size_t places = 1 << 20;
    std::size_t piece_;
    std::vector<char> bytes_;
};

class Load {
public:
    explicit Load(const Options& options);
    void open();
    void run();
    void print() const;

private:
    struct End {
        int fd = -1;
        bool source = false;
        std::uint64_t connection = 0;
        std::uint64_t position = 0; ///< what was sent, or has arrived
    };

    enum class Phase { warm_up, measuring, ending };

    static void set_non_blocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }
    void connect_one(std::size_t number, std::uint64_t patience_ns);
    void accept_one(End& at);
    void watch(End& at);
    void send(End& at);
    void receive(End& at);
    void end(const End& at);
    void change_phase(std::uint64_t time);

    Options options_;
    Text text_;
    std::vector<char> buffer_;
    std::vector<End> ends_; // sources, then sinks
    int listener_ = -1;
    int epoll_ = epoll_create1(EPOLL_CLOEXEC);

    Phase phase_ = Phase::warm_up;
    std::size_t open_sinks_;
    std::uint64_t received_ = 0; ///< while measuring
    std::uint64_t phase_end_ns_ = 0;
    std::uint64_t start_ns_ = 0;
    std::uint64_t end_ns_ = 0;
    ProcessorTime at_start_;
    ProcessorTime at_end_;
};

Load::Load(const Options& options)
    : options_(options),
      text_(options.piece),
      buffer_(options.piece),
      ends_(options.connections * 2),
      open_sinks_(options.connections) {
    const sockaddr_in at = address_of(options.sink);
    const int on = 1;
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 ||
        listen(listener_, SOMAXCONN) != 0)
        fail("listen at " + options.sink, errno);
}

/// Opens a connection to the proxy and says which it is. The proxy may only just be starting.
void Load::connect_one(std::size_t number, std::uint64_t patience_ns) {
    const sockaddr_in to = address_of(options_.proxy);
    End& at = ends_[number];
    at.source = true;
    at.connection = number;
    for (;;) {
        at.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(at.fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0)
            break;
        if (errno != ECONNREFUSED || now_ns() > patience_ns)
            fail("connect to " + options_.proxy, errno);
        ::close(at.fd);
        usleep(5'000);
    }
    if (::send(at.fd, &at.connection, sizeof at.connection, MSG_NOSIGNAL) != sizeof at.connection)
        fail("send", errno);
}

/// Takes a connection of the proxy's, and learns which it is.
void Load::accept_one(End& at) {
    const timeval patience{.tv_sec = 3, .tv_usec = 0};
    setsockopt(listener_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    at.fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (at.fd < 0)
        fail("the proxy does not connect", errno);
    if (recv(at.fd, &at.connection, sizeof at.connection, MSG_WAITALL) != sizeof at.connection ||
        at.connection >= options_.connections)
        fail("the first bytes of a connection are wrong");
}

void Load::watch(End& at) {
    set_non_blocking(at.fd);
    epoll_event event{.events = at.source ? EPOLLOUT : EPOLLIN, .data = {.ptr = &at}};
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, at.fd, &event) != 0)
        fail("epoll_ctl", errno);
}

void Load::open() {
    const std::uint64_t patience_ns = now_ns() + 3'000'000'000u;
    for (std::size_t i = 0; i < options_.connections; ++i) {
        connect_one(i, patience_ns);
        accept_one(ends_[options_.connections + i]);
    }
    for (End& at : ends_)
        watch(at);
}

void Load::send(End& at) {
    if (phase_ == Phase::ending) {
        epoll_ctl(epoll_, EPOLL_CTL_DEL, at.fd, nullptr);
        shutdown(at.fd, SHUT_WR);
        return;
    }
    const ssize_t n = ::send(at.fd, text_.at(at.connection, at.position), text_.piece(),
                             MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN)
        fail("send", errno);
    if (n > 0)
        at.position += static_cast<std::uint64_t>(n);
}

void Load::receive(End& at) {
    // TCP drops what is received with MSG_TRUNC.
    const bool unread = phase_ == Phase::measuring;
    const ssize_t n =
        recv(at.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT | (unread ? MSG_TRUNC : 0));
    if (n < 0 && errno == EAGAIN)
        return;
    if (n < 0)
        fail("recv", errno);
    if (n == 0)
        return end(at);
    const auto size = static_cast<std::size_t>(n);
    if (unread)
        received_ += size;
    else if (std::memcmp(buffer_.data(), text_.at(at.connection, at.position), size) != 0)
        fail("a wrong byte has arrived");
    at.position += size;
}

void Load::end(const End& at) {
    if (phase_ != Phase::ending)
        fail("the proxy ended a connection");
    if (at.position != ends_[at.connection].position)
        fail("a connection ended before all had arrived");
    epoll_ctl(epoll_, EPOLL_CTL_DEL, at.fd, nullptr);
    ::close(at.fd);
    --open_sinks_;
}

void Load::change_phase(std::uint64_t time) {
    if (phase_ == Phase::warm_up) {
        phase_ = Phase::measuring;
        if (options_.pid)
            at_start_ = ProcessorTime::of(options_.pid);
        start_ns_ = now_ns();
        phase_end_ns_ = start_ns_ + static_cast<std::uint64_t>(options_.seconds * 1e9);
    } else {
        phase_ = Phase::ending;
        phase_end_ns_ = ~std::uint64_t{0};
        end_ns_ = time;
        if (options_.pid)
            at_end_ = ProcessorTime::of(options_.pid);
    }
}

void Load::run() {
    phase_end_ns_ = now_ns() + static_cast<std::uint64_t>(options_.warm_up * 1e9);
    std::array<epoll_event, 64> events;
    while (open_sinks_ > 0) {
        const int count = epoll_wait(epoll_, events.data(), events.size(), 5'000);
        if (count == 0)
            fail("nothing has arrived for five seconds");
        for (int i = 0; i < count; ++i) {
            End& at = *static_cast<End*>(events[static_cast<std::size_t>(i)].data.ptr);
            if (at.source)
                send(at);
            else
                receive(at);
        }
        if (const std::uint64_t time = now_ns(); time >= phase_end_ns_)
            change_phase(time);
    }
}

void Load::print() const {
    const auto wall_ns = static_cast<double>(end_ns_ - start_ns_);
    const double moved = static_cast<double>(received_) / static_cast<double>(GiB);
    const auto share = [&](std::uint64_t before, std::uint64_t after) {
        return static_cast<double>(after - before) / wall_ns * 100;
    };
    const double rate = moved / wall_ns * 1e9;
    const double cpu_ms = static_cast<double>(at_end_.ran_ns - at_start_.ran_ns) / 1e6 / moved;
    std::printf("%zu connections, pieces of %zu B: %.2f GiB/s, %.0f ms of processor time a GiB\n",
                options_.connections, options_.piece, rate, cpu_ms);
    std::printf("RESULT {\"gib\": %.3f, \"gib_per_second\": %.4f, \"cpu_ms\": %.2f, "
                "\"busy_percent\": %.2f, \"waited_percent\": %.2f, \"stolen_percent\": %.2f}\n",
                moved, rate, cpu_ms, share(at_start_.ran_ns, at_end_.ran_ns),
                share(at_start_.waited_ns, at_end_.waited_ns),
                share(at_start_.stolen_ns, at_end_.stolen_ns));
}

Options parse(int argc, char** argv) {
    Options options;
    parse_arguments(argc, argv,
                    {{"--connections", &options.connections},
                     {"--piece", &options.piece},
                     {"--seconds", &options.seconds},
                     {"--warm-up", &options.warm_up},
                     {"--pid", &options.pid}},
                    {&options.proxy, &options.sink});
    if (options.sink.empty())
        fail("two addresses are needed: the proxy's, and the one that it is a proxy for");
    if (options.connections == 0 || options.piece == 0 || options.piece > 1 << 20)
        fail("--connections and --piece must be positive, a piece at most 1 MiB");
    return options;
}

} // namespace

int main(int argc, char** argv) {
    Load load{parse(argc, argv)};
    load.open();
    load.run();
    load.print();
}
