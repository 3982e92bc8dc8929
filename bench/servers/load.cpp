// The load on an echo server: a number of connections, each sends a message, waits until all of
// it has come back, checks every byte and sends the next. One thread on epoll, no Trapline.
//
//     server_load 127.0.0.1:25000 [--connections 64] [--bytes 64] [--seconds 1] [--warm-up 0.2]
//                 [--requests N] [--pid SERVER] [--idle] [--tls]
//
// With --requests it ends after so many instead of by time. With --pid the server's processor
// time is taken over the same stretch of time, and what the host and other processes took away
// from it. With --idle the connections are opened, used once and left alone, and what the
// server's memory has grown by is told. With --tls the connections are OpenSSL's, which looks at no
// certificates. The last line, RESULT {...}, is for programs.
#include <optional>
#include <random>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef TRAPLINE_TLS
#include <openssl/ssl.h>
#else
struct ssl_st;
#endif

#include "measured.hpp"

namespace {

struct Options {
    std::string address = "127.0.0.1:25000";
    std::size_t connections = 64;
    std::size_t bytes = 64;
    double seconds = 1;
    double warm_up = 0.2;
    std::uint64_t requests = 0;
    int pid = 0;
    bool idle = false;
    bool tls = false;
};

/// Resident memory of a process in KiB.
std::uint64_t memory_kib(int pid) {
    std::ifstream rollup("/proc/" + std::to_string(pid) + "/smaps_rollup");
    for (std::string line; std::getline(rollup, line);) {
        if (line.starts_with("Rss:"))
            return std::stoull(line.substr(4));
    }
    fail("cannot read the memory of process " + std::to_string(pid));
}

/// TLS over a connected socket, which is non-blocking after the handshake. Calls answer as those of
/// sockets do.
class Tls {
public:
#ifdef TRAPLINE_TLS
    Tls() : context_(SSL_CTX_new(TLS_client_method())) {
        if (!context_)
            fail("TLS", ENOMEM);
        SSL_CTX_set_read_ahead(context_, 1);
    }
    ssl_st* connect(int fd) {
        SSL* ssl = SSL_new(context_);
        if (!ssl || SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1)
            fail("TLS handshake", EPROTO);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        return ssl;
    }
    static ssize_t send(ssl_st* ssl, const char* data, std::size_t size) {
        return answer(ssl, SSL_write(ssl, data, static_cast<int>(size)));
    }
    static ssize_t recv(ssl_st* ssl, char* to, std::size_t size) {
        return answer(ssl, SSL_read(ssl, to, static_cast<int>(size)));
    }
    static void end(ssl_st* ssl) { SSL_shutdown(ssl); }
    static void drop(ssl_st* ssl) { SSL_free(ssl); }

private:
    static ssize_t answer(ssl_st* ssl, int result) {
        if (result > 0)
            return result;
        switch (SSL_get_error(ssl, result)) {
        case SSL_ERROR_ZERO_RETURN: return 0;
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
        default: errno = EPROTO; return -1;
        }
    }

    SSL_CTX* context_;
#else
    ssl_st* connect(int) { fail("built without TLS"); }
    static ssize_t send(ssl_st*, const char*, std::size_t) { return -1; }
    static ssize_t recv(ssl_st*, char*, std::size_t) { return -1; }
    static void end(ssl_st*) {}
    static void drop(ssl_st*) {}
#endif
};

class Load {
public:
    explicit Load(const Options& options);
    void open();
    void run();
    void close();
    void print() const;
    void print_idle(std::uint64_t memory_before) const;

private:
    struct Connection {
        int fd = -1;
        ssl_st* tls = nullptr;
        std::size_t sent = 0;
        std::size_t received = 0;
        std::uint64_t count = 0; ///< messages
        std::uint64_t started_ns = 0;
    };

    enum class Phase { warm_up, measuring, ending };

    const char* message_of(const Connection& at) const {
        const auto index = static_cast<std::uint64_t>(&at - connections_.data());
        return &text_[(index * 40'503 + at.count * 8'191) % text_places];
    }
    void start(Connection& at);
    void go_on(Connection& at);
    void send_rest(Connection& at);
    void receive(Connection& at);
    void answered(Connection& at);
    void change_phase(std::uint64_t time);

    static constexpr std::size_t text_places = 1 << 16;
    Options options_;
    sockaddr_in address_;
    std::vector<char> text_; // messages are cut out of it
    std::vector<char> buffer_;
    std::vector<Connection> connections_;
    int epoll_ = epoll_create1(EPOLL_CLOEXEC);
    std::optional<Tls> tls_;

    Phase phase_ = Phase::warm_up;
    std::size_t waiting_ = 0; ///< connections with an answer to come
    std::uint64_t asked_ = 0;
    std::uint64_t phase_end_ns_ = 0;
    std::uint64_t start_ns_ = 0;
    std::uint64_t end_ns_ = 0;
    ProcessorTime at_start_;
    ProcessorTime at_end_;
    ProcessorTime own_at_start_; ///< the load's, which is to have its core for itself
    ProcessorTime own_at_end_;
    Histogram latencies_;
};

Load::Load(const Options& options)
    : options_(options),
      address_(address_of(options.address)),
      text_(text_places + options.bytes),
      buffer_(options.bytes),
      connections_(options.connections) {
    if (options.tls)
        tls_.emplace();
    std::mt19937_64 dice{42};
    std::ranges::generate(text_, [&] { return static_cast<char>(dice()); });
}

/// Connects all. The server may only just be starting.
void Load::open() {
    const std::uint64_t patience_ns = now_ns() + 3'000'000'000u;
    for (Connection& at : connections_) {
        for (;;) {
            at.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (at.fd < 0)
                fail("socket", errno);
            if (connect(at.fd, reinterpret_cast<sockaddr*>(&address_), sizeof address_) == 0)
                break;
            if (errno != ECONNREFUSED || now_ns() > patience_ns)
                fail("connect to " + options_.address, errno);
            ::close(at.fd);
            usleep(5'000);
        }
        const int on = 1;
        setsockopt(at.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (tls_)
            at.tls = tls_->connect(at.fd);
        epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                          .data = {.ptr = &at}};
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, at.fd, &event) != 0)
            fail("epoll_ctl", errno);
    }
}

void Load::start(Connection& at) {
    ++asked_;
    ++at.count;
    at.sent = at.received = 0;
    send_rest(at);
}

void Load::send_rest(Connection& at) {
    while (at.sent < options_.bytes) {
        const char* data = message_of(at) + at.sent;
        const std::size_t size = options_.bytes - at.sent;
        const ssize_t n = at.tls ? Tls::send(at.tls, data, size)
                                 : send(at.fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            fail("send", errno);
        at.sent += static_cast<std::size_t>(n);
    }
}

void Load::receive(Connection& at) {
    while (at.received < options_.bytes) {
        const std::size_t left = options_.bytes - at.received;
        const ssize_t n = at.tls ? Tls::recv(at.tls, buffer_.data(), left)
                                 : recv(at.fd, buffer_.data(), left, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            fail("recv", errno);
        if (n == 0)
            fail("the server ended a connection");
        const auto size = static_cast<std::size_t>(n);
        if (std::memcmp(buffer_.data(), message_of(at) + at.received, size) != 0)
            fail("a wrong byte came back");
        at.received += size;
    }
}

void Load::go_on(Connection& at) {
    if (at.count == 0 || at.received == options_.bytes)
        return; // nothing is under way
    send_rest(at);
    receive(at);
    if (at.received == options_.bytes)
        answered(at);
}

void Load::answered(Connection& at) {
    const std::uint64_t time = now_ns();
    if (phase_ == Phase::measuring)
        latencies_.add(time - at.started_ns);
    if (time >= phase_end_ns_)
        change_phase(time);
    at.started_ns = time;
    if (phase_ == Phase::ending || (options_.requests && asked_ == options_.requests))
        --waiting_;
    else
        start(at);
}

void Load::change_phase(std::uint64_t time) {
    if (phase_ == Phase::warm_up) {
        phase_ = Phase::measuring;
        if (options_.pid)
            at_start_ = ProcessorTime::of(options_.pid);
        own_at_start_ = ProcessorTime::of(getpid());
        start_ns_ = now_ns();
        phase_end_ns_ = options_.requests
                            ? ~std::uint64_t{0}
                            : time + static_cast<std::uint64_t>(options_.seconds * 1e9);
    } else if (phase_ == Phase::measuring) {
        phase_ = Phase::ending;
        phase_end_ns_ = ~std::uint64_t{0};
        end_ns_ = time;
        if (options_.pid)
            at_end_ = ProcessorTime::of(options_.pid);
        own_at_end_ = ProcessorTime::of(getpid());
    }
}

void Load::run() {
    const double warm_up = options_.requests || options_.idle ? 0 : options_.warm_up;
    phase_end_ns_ = now_ns() + static_cast<std::uint64_t>(warm_up * 1e9);
    if (options_.requests)
        change_phase(now_ns());
    if (options_.idle)
        phase_ = Phase::ending;
    waiting_ = connections_.size();
    for (Connection& at : connections_) {
        at.started_ns = now_ns();
        start(at);
    }
    std::array<epoll_event, 512> events;
    while (waiting_ > 0) {
        const int count = epoll_wait(epoll_, events.data(), events.size(), 5'000);
        if (count == 0)
            fail("no answer for five seconds");
        for (int i = 0; i < count; ++i)
            go_on(*static_cast<Connection*>(events[static_cast<std::size_t>(i)].data.ptr));
    }
    if (phase_ == Phase::measuring)
        change_phase(now_ns());
}

/// Ends all connections in order; nothing must come any more.
void Load::close() {
    for (const Connection& at : connections_) {
        if (at.tls)
            Tls::end(at.tls);
        else
            shutdown(at.fd, SHUT_WR);
    }
    for (const Connection& at : connections_) {
        char byte = 0;
        if (at.tls)
            fcntl(at.fd, F_SETFL, fcntl(at.fd, F_GETFL) & ~O_NONBLOCK);
        if (const ssize_t n = at.tls ? Tls::recv(at.tls, &byte, 1) : recv(at.fd, &byte, 1, 0);
            n != 0)
            fail("end of a connection", n < 0 ? errno : EPROTO);
        if (at.tls)
            Tls::drop(at.tls);
        ::close(at.fd);
    }
}

void Load::print() const {
    const auto wall_ns = static_cast<double>(end_ns_ - start_ns_);
    const auto requests = static_cast<double>(latencies_.total());
    const auto share = [&](std::uint64_t before, std::uint64_t after) {
        return static_cast<double>(after - before) / wall_ns * 100;
    };
    const double rate = requests / wall_ns * 1e9;
    const double cpu_ns = static_cast<double>(at_end_.ran_ns - at_start_.ran_ns) / requests;
    const double busy = share(at_start_.ran_ns, at_end_.ran_ns);
    const double waited = share(at_start_.waited_ns, at_end_.waited_ns);
    const double own_waited = share(own_at_start_.waited_ns, own_at_end_.waited_ns);
    const double stolen = share(at_start_.stolen_ns, at_end_.stolen_ns);
    const double p50 = latencies_.percentile_us(50), p99 = latencies_.percentile_us(99),
                 p999 = latencies_.percentile_us(99.9);
    std::printf("%zu connections, %zu B: %.0f requests/s; latency p50 %.0f, p99 %.0f, p99.9 %.0f, "
                "max %.0f us\n",
                connections_.size(), options_.bytes, rate, p50, p99, p999, latencies_.max_us());
    if (options_.pid)
        std::printf("server: %.0f ns of processor time a request, busy %.0f %%; other processes "
                    "took %.1f %%, the host %.1f %%\n",
                    cpu_ns, busy, waited, stolen);
    std::printf("RESULT {\"requests\": %.0f, \"per_second\": %.1f, \"p50_us\": %.1f, "
                "\"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, \"cpu_ns\": %.1f, "
                "\"busy_percent\": %.2f, \"waited_percent\": %.2f, "
                "\"load_waited_percent\": %.2f, \"stolen_percent\": %.2f}\n",
                requests, rate, p50, p99, p999, latencies_.max_us(), cpu_ns, busy, waited,
                own_waited, stolen);
}

void Load::print_idle(std::uint64_t memory_before) const {
    const double grown = static_cast<double>(memory_kib(options_.pid) - memory_before) * 1024;
    const double each = grown / static_cast<double>(connections_.size());
    std::printf("%zu idle connections: the server's memory has grown by %.0f B for each\n",
                connections_.size(), each);
    std::printf("RESULT {\"connections\": %zu, \"bytes_each\": %.1f}\n", connections_.size(), each);
}

Options parse(int argc, char** argv) {
    Options options;
    parse_arguments(argc, argv,
                    {{"--connections", &options.connections},
                     {"--bytes", &options.bytes},
                     {"--seconds", &options.seconds},
                     {"--warm-up", &options.warm_up},
                     {"--requests", &options.requests},
                     {"--pid", &options.pid},
                     {"--idle", &options.idle},
                     {"--tls", &options.tls}},
                    {&options.address});
    if (options.idle && !options.pid)
        fail("--idle needs --pid");
    if (options.connections == 0 || options.bytes == 0)
        fail("nothing to do");
    if (options.requests && options.requests < options.connections)
        options.requests = options.connections;
    return options;
}

} // namespace

int main(int argc, char** argv) {
    const Options options = parse(argc, argv);
    Load load{options};
    const std::uint64_t memory_before = options.idle ? memory_kib(options.pid) : 0;
    load.open();
    load.run();
    if (options.idle)
        load.print_idle(memory_before);
    else
        load.print();
    load.close();
}
