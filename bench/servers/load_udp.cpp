// The load on a UDP echo server: a number of sockets, each sends a message, waits until it has come
// back, checks every byte and sends the next. A message that is not back within the patience counts
// as lost and is sent again; one that comes back after all, when another is awaited, as late. One
// thread on epoll, no Trapline.
//
//     server_load_udp 127.0.0.1:25000 [--connections 64] [--bytes 64] [--seconds 1]
//                     [--warm-up 0.2] [--patience-ms 100] [--pid SERVER]
//
// With --pid the server's processor time is taken over the same stretch of time, and what the host
// and other processes took away from it. The last line, RESULT {...}, is for programs.
#include <random>
#include <string_view>
#include <vector>

#include <sys/epoll.h>
#include <sys/socket.h>

#include "measured.hpp"

namespace {

struct Options {
    std::string address = "127.0.0.1:25000";
    std::size_t connections = 64;
    std::size_t bytes = 64;
    double seconds = 1;
    double warm_up = 0.2;
    std::uint64_t patience_ms = 100;
    int pid = 0;
};

/// What each message begins with; bytes out of a table follow, which it decides.
struct Head {
    std::uint64_t socket;
    std::uint64_t count;
};

class Load {
public:
    explicit Load(const Options& options);
    void open();
    void run();
    void print() const;

private:
    struct Socket {
        int fd = -1;
        Head head{};                  ///< of the message under way
        std::uint64_t started_ns = 0; ///< when it was sent first
        std::uint64_t repeat_at_ns = 0;
        std::uint64_t repeats = 0; ///< of this message
    };

    enum class Phase { warm_up, measuring, ended };

    const char* rest_of(const Head& head) const {
        return &text_[(head.socket * 40'503 + head.count * 8'191) % text_places];
    }
    void send(Socket& at);
    void next(Socket& at, std::uint64_t time);
    void receive(Socket& at);
    bool is_awaited(Socket& at, std::size_t size);
    void wait_for_server();
    void repeat_lost();
    void change_phase(std::uint64_t time);

    static constexpr std::size_t text_places = 1 << 16;
    Options options_;
    sockaddr_in address_;
    std::vector<char> text_; // messages are cut out of it
    std::vector<char> buffer_;
    std::vector<Socket> sockets_;
    int epoll_ = epoll_create1(EPOLL_CLOEXEC);

    Phase phase_ = Phase::warm_up;
    std::uint64_t lost_ = 0;
    std::uint64_t late_ = 0;
    std::uint64_t phase_end_ns_ = 0;
    std::uint64_t start_ns_ = 0;
    std::uint64_t end_ns_ = 0;
    ProcessorTime at_start_;
    ProcessorTime at_end_;
    Histogram latencies_;
};

Load::Load(const Options& options)
    : options_(options),
      address_(address_of(options.address)),
      text_(text_places + options.bytes),
      buffer_(options.bytes + 1), // one that is too long must not look right
      sockets_(options.connections) {
    std::mt19937_64 dice{42};
    std::ranges::generate(text_, [&] { return static_cast<char>(dice()); });
}

void Load::open() {
    for (std::size_t i = 0; i < sockets_.size(); ++i) {
        Socket& at = sockets_[i];
        at.head.socket = i;
        at.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (at.fd < 0)
            fail("socket", errno);
        if (connect(at.fd, reinterpret_cast<sockaddr*>(&address_), sizeof address_) != 0)
            fail("connect to " + options_.address, errno);
        epoll_event event{.events = EPOLLIN, .data = {.ptr = &at}};
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, at.fd, &event) != 0)
            fail("epoll_ctl", errno);
    }
    wait_for_server();
}

/// It may only just be starting: asks until something comes back.
void Load::wait_for_server() {
    const std::uint64_t patience_ns = now_ns() + 3'000'000'000u;
    const int fd = sockets_.front().fd;
    for (char byte = 1;;) {
        const bool sent = ::send(fd, &byte, 1, 0) == 1;
        usleep(5'000);
        if (sent && recv(fd, &byte, 1, MSG_DONTWAIT) == 1)
            break;
        if (now_ns() > patience_ns)
            fail("no answer from " + options_.address);
    }
    usleep(5'000); // what was sent more than once has come back by now
    while (recv(fd, buffer_.data(), 1, MSG_DONTWAIT) >= 0)
        ;
}

void Load::send(Socket& at) {
    iovec parts[] = {
        {&at.head, sizeof at.head},
        {const_cast<char*>(rest_of(at.head)), options_.bytes - sizeof at.head},
    };
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    // Where there is no room for it, it is sent again like one that is lost on the way.
    if (sendmsg(at.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN &&
        errno != ENOBUFS)
        fail("send", errno);
}

void Load::next(Socket& at, std::uint64_t time) {
    ++at.head.count;
    at.started_ns = time;
    at.repeats = 0;
    at.repeat_at_ns = time + options_.patience_ms * 1'000'000;
    send(at);
}

/// Whether it is the answer that is waited for. One to an earlier message is late, and anything
/// else is wrong.
bool Load::is_awaited(Socket& at, std::size_t size) {
    Head head{};
    if (size != options_.bytes)
        fail("an answer of a wrong size came back");
    std::memcpy(&head, buffer_.data(), sizeof head);
    const bool ours =
        head.socket == at.head.socket && head.count > 0 && head.count <= at.head.count;
    if (!ours || std::memcmp(buffer_.data() + sizeof head, rest_of(head), size - sizeof head) != 0)
        fail("a wrong byte came back");
    if (head.count == at.head.count)
        return true;
    ++late_;
    return false;
}

void Load::receive(Socket& at) {
    const ssize_t n = recv(at.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n < 0)
        fail("recv", errno);
    if (!is_awaited(at, static_cast<std::size_t>(n)))
        return;
    const std::uint64_t time = now_ns();
    if (phase_ == Phase::measuring)
        latencies_.add(time - at.started_ns);
    if (time >= phase_end_ns_)
        change_phase(time);
    if (phase_ != Phase::ended)
        next(at, time);
}

void Load::repeat_lost() {
    const std::uint64_t time = now_ns();
    for (Socket& at : sockets_) {
        if (time < at.repeat_at_ns)
            continue;
        if (++at.repeats * options_.patience_ms > 5'000)
            fail("no answer for five seconds");
        lost_ += phase_ == Phase::measuring;
        at.repeat_at_ns = time + options_.patience_ms * 1'000'000;
        send(at);
    }
}

void Load::change_phase(std::uint64_t time) {
    if (phase_ == Phase::warm_up) {
        phase_ = Phase::measuring;
        late_ = 0;
        if (options_.pid)
            at_start_ = ProcessorTime::of(options_.pid);
        start_ns_ = now_ns();
        phase_end_ns_ = start_ns_ + static_cast<std::uint64_t>(options_.seconds * 1e9);
    } else {
        phase_ = Phase::ended;
        end_ns_ = time;
        if (options_.pid)
            at_end_ = ProcessorTime::of(options_.pid);
    }
}

void Load::run() {
    phase_end_ns_ = now_ns() + static_cast<std::uint64_t>(options_.warm_up * 1e9);
    for (Socket& at : sockets_)
        next(at, now_ns());
    const std::uint64_t look_every_ns = options_.patience_ms * 1'000'000 / 4;
    std::uint64_t look_at_ns = now_ns() + look_every_ns;
    std::array<epoll_event, 512> events;
    while (phase_ != Phase::ended) {
        const int count = epoll_wait(epoll_, events.data(), events.size(),
                                     static_cast<int>(options_.patience_ms / 4 + 1));
        for (int i = 0; i < count && phase_ != Phase::ended; ++i)
            receive(*static_cast<Socket*>(events[static_cast<std::size_t>(i)].data.ptr));
        if (now_ns() >= look_at_ns) {
            repeat_lost();
            look_at_ns = now_ns() + look_every_ns;
        }
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
    const double p50 = latencies_.percentile_us(50), p99 = latencies_.percentile_us(99);
    std::printf("%zu sockets, %zu B: %.0f requests/s; latency p50 %.0f, p99 %.0f, max %.0f us; "
                "%llu lost, %llu late\n",
                sockets_.size(), options_.bytes, rate, p50, p99, latencies_.max_us(),
                static_cast<unsigned long long>(lost_), static_cast<unsigned long long>(late_));
    std::printf("RESULT {\"requests\": %.0f, \"per_second\": %.1f, \"p50_us\": %.1f, "
                "\"p99_us\": %.1f, \"max_us\": %.1f, \"cpu_ns\": %.1f, \"lost\": %llu, "
                "\"late\": %llu, \"busy_percent\": %.2f, \"waited_percent\": %.2f, "
                "\"stolen_percent\": %.2f}\n",
                requests, rate, p50, p99, latencies_.max_us(), cpu_ns,
                static_cast<unsigned long long>(lost_), static_cast<unsigned long long>(late_),
                share(at_start_.ran_ns, at_end_.ran_ns),
                share(at_start_.waited_ns, at_end_.waited_ns),
                share(at_start_.stolen_ns, at_end_.stolen_ns));
}

Options parse(int argc, char** argv) {
    Options options;
    parse_arguments(argc, argv,
                    {{"--connections", &options.connections},
                     {"--bytes", &options.bytes},
                     {"--seconds", &options.seconds},
                     {"--warm-up", &options.warm_up},
                     {"--patience-ms", &options.patience_ms},
                     {"--pid", &options.pid}},
                    {&options.address});
    if (options.connections == 0 || options.patience_ms == 0)
        fail("nothing to do");
    if (options.bytes < sizeof(Head) || options.bytes > 2048)
        fail("--bytes must be between 16 and 2048");
    return options;
}

} // namespace

int main(int argc, char** argv) {
    Load load{parse(argc, argv)};
    load.open();
    load.run();
    load.print();
}
