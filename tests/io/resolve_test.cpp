#include <trapline/io/resolve.hpp>

#include <algorithm>
#include <functional>
#include <latch>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <sys/resource.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/cancel.hpp>
#include <trapline/traps/group.hpp>
#include <trapline/traps/thread_pool.hpp>

#include "../support/dns.hpp"
#include "../support/engines.hpp"
#include "../support/leaks.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using test::DnsAnswers;
using test::DnsQuery;
using test::DnsReplies;
using test::DnsServer;
using test::LeakGuard;
using test::reply;

namespace {

using Addresses = std::vector<SocketAddress>;
using Texts = std::vector<std::string>;

Texts texts_of(const Addresses& addresses) {
    Texts texts;
    for (const SocketAddress& address : addresses)
        texts.push_back(address.to_string());
    return texts;
}

/// The order of addresses is the system's affair, by its routes.
Texts sorted(Texts texts) {
    std::ranges::sort(texts);
    return texts;
}

struct Complaint {
    std::error_code code;
    std::string text;
};

Coro<Complaint> complaint_of(Coro<Addresses> call) {
    try {
        (void)co_await std::move(call);
    } catch (const std::system_error& e) {
        co_return Complaint{e.code(), e.what()};
    }
    co_return Complaint{};
}

/// Runs a test body, a callable, and checks that it leaves nothing open.
template <class F>
void check(F body) {
    // The threads of run_in_thread stay, and so may what the C library opens at its first use.
    const LeakGuard guard;
    run(std::move(body));
}

bool asks_servers() { return resolve_backend().starts_with("c-ares"); }

Coro<void> with_server(const DnsAnswers& answers, std::function<Coro<void>(DnsServer&)> body) {
    DnsServer server{answers};
    Task<> serving = co_await spawn(server.serve());
    co_await body(server);
    co_await serving.cancel();
}

/// The same with a name server that answers so, on each of these kernels.
void check_on(const std::vector<KernelOptions>& kernels, const DnsAnswers& answers,
              const std::function<Coro<void>(DnsServer&)>& body) {
    if (!asks_servers()) {
        MESSAGE("skipped: this build does not ask name servers itself");
        return;
    }
    for (const KernelOptions& options : kernels) {
        const LeakGuard guard;
        run(with_server(answers, body), options);
    }
}

/// The same on kernels of several kinds.
void check(const DnsAnswers& answers, const std::function<Coro<void>(DnsServer&)>& body) {
    std::vector<KernelOptions> kernels{{}};
    for (const test::EngineChoice& engine : test::engines()) {
        if (engine.name.ends_with("tiny"))
            kernels.push_back(engine.options);
    }
    for (std::uint64_t seed = 1; seed <= 3; ++seed)
        kernels.push_back({.shuffle_seed = seed});
    check_on(kernels, answers, body);
}

/// Asks `server` alone, and patiently: a busy machine must not make a difference.
ResolveOptions ask(const Addresses& servers) { return {.timeout = 20s, .servers = servers}; }

DnsReplies nothing_there(const DnsQuery& query) { return {reply(query).rcode(3)}; }

DnsReplies one_of_each(const DnsQuery& query) {
    return {reply(query).a("192.0.2.1").aaaa("2001:db8::1")};
}

} // namespace

TEST_CASE("localhost is found, as the example shows") {
    check([]() -> Coro<void> {
        std::vector<SocketAddress> found = co_await resolve("localhost", 8080);
        std::string first = found.front().to_string(); // "127.0.0.1:8080" or "[::1]:8080"
        CHECK((first == "127.0.0.1:8080" || first == "[::1]:8080"));
    });
}

TEST_CASE("a host that is not there is an error that names it, as the example shows") {
    check(nothing_there, [](DnsServer& server) -> Coro<void> {
        const Addresses servers{server.address()};
        bool missing = false;
        std::vector<SocketAddress> found;
        try {
            found = co_await resolve("nowhere.test", 80, {.servers = servers});
        } catch (const std::system_error& e) { // "resolve nowhere.test: host not found"
            missing = e.code() == ResolveErrc::host_not_found;
        }
        CHECK(missing);
        const Complaint c = co_await complaint_of(resolve("nowhere.test", 80, ask(servers)));
        CHECK(c.text == "resolve nowhere.test: host not found");
    });
}

// --- without a name server -----------------------------------------------------------------

TEST_CASE("hosts given by number are answered at once") {
    check([]() -> Coro<void> {
        // Not even a turn of the kernel is given up.
        bool others_ran = false;
        Task<> other = co_await spawn(
            [](bool& ran) -> Coro<void> {
                ran = true;
                co_return;
            },
            std::ref(others_ran));
        const Addresses v4 = co_await resolve("192.0.2.7", 80);
        const Addresses v6 = co_await resolve("2001:db8::7", "443");
        const bool waited = others_ran;
        co_await other.join();
        CHECK(texts_of(v4) == Texts{"192.0.2.7:80"});
        CHECK(texts_of(v6) == Texts{"[2001:db8::7]:443"});
        CHECK_FALSE(waited);
    });
}

TEST_CASE("an interface may stand behind a link-local address") {
    check([]() -> Coro<void> {
        const Addresses found = co_await resolve("fe80::1%lo", 80);
        const Complaint c = co_await complaint_of(resolve("fe80::1%nowhere", 80));
        CHECK(texts_of(found) == Texts{"[fe80::1%lo]:80"});
        CHECK(c.code == ResolveErrc::invalid_name);
    });
}

TEST_CASE("a number of the other family is no answer") {
    check([]() -> Coro<void> {
        const Complaint c = co_await complaint_of(resolve("127.0.0.1", 80, {.family = AF_INET6}));
        CHECK(c.code == ResolveErrc::no_data);
        CHECK(c.text == "resolve 127.0.0.1: the host has no address of the family asked for");
    });
}

TEST_CASE("localhost is found in the family asked for") {
    check([]() -> Coro<void> {
        const Addresses found = co_await resolve("localhost", 80, {.family = AF_INET});
        bool all_v4 = !found.empty();
        for (const SocketAddress& address : found)
            all_v4 = all_v4 && address.to_string() == "127.0.0.1:80";
        CHECK(all_v4);
    });
}

TEST_CASE("a service is a port, or a name that is known") {
    check([]() -> Coro<void> {
        const Addresses digits = co_await resolve("127.0.0.1", "65535");
        CHECK(digits.front().port() == 65535);
        for (const char* unknown :
             {"", "65536", "99999999999", "80x", "-1", "+80", " 80", "0x50", "no-such-service"}) {
            CAPTURE(unknown);
            const Complaint c = co_await complaint_of(resolve("127.0.0.1", unknown));
            CHECK(c.code == ResolveErrc::unknown_service);
        }
        const Complaint nul =
            co_await complaint_of(resolve("127.0.0.1", std::string("http\0x", 6)));
        CHECK(nul.text == "resolve 127.0.0.1: http\\x00x: unknown service");
        if (::access("/etc/services", R_OK) == 0) {
            const Addresses http = co_await resolve("127.0.0.1", "http");
            CHECK(http.front().port() == 80);
        }
    });
}

TEST_CASE("what is no host name is an error that says why") {
    check([]() -> Coro<void> {
        const std::string label(63, 'a');
        const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'a');
        const std::vector<std::pair<std::string, std::string>> bad = {
            {"", "\"\": the name is empty"},
            {".", ".: the name is empty"},
            {"a b",
             "a\\x20b: the name holds something else than letters, digits, '-', '_' and dots"},
            {std::string("a\0b", 3),
             "a\\x00b: the name holds something else than letters, digits, '-', '_' and dots"},
            {std::string("127.0.0.1\0.test", 15),
             "127.0.0.1\\x00.test: "
             "the name holds something else than letters, digits, '-', '_' and dots"},
            {"b\xc3\xbc.test",
             "b\\xc3\\xbc.test: "
             "the name holds something else than letters, digits, '-', '_' and dots"},
            {"a..test", "a..test: a part of the name is empty"},
            {".test", ".test: a part of the name is empty"},
            {label + "a.test", label + "a.test: a part of the name is longer than 63 characters"},
            {longest + "a", longest.substr(0, 80) + "...: the name is longer than 253 characters"},
            {"1::2::3", "1::2::3: the name holds a colon, but is no IPv6 address, "
                        "or its interface is not there"},
            {"127.1", "127.1: a name does not end in a number, "
                      "and as an address it is none of four numbers"},
            {"0x7f.0.0.0x1", "0x7f.0.0.0x1: a name does not end in a number, "
                             "and as an address it is none of four numbers"},
            {"256.0.0.1", "256.0.0.1: a name does not end in a number, "
                          "and as an address it is none of four numbers"},
        };
        for (const auto& [host, why] : bad) {
            CAPTURE(host);
            const Complaint c = co_await complaint_of(resolve(host, 80));
            CHECK(c.code == ResolveErrc::invalid_name);
            CHECK(c.code == std::errc::invalid_argument);
            CHECK(c.text == "resolve " + why + ": invalid host name");
        }
    });
}

TEST_CASE("options out of range are refused") {
    check([]() -> Coro<void> {
        const Addresses local{SocketAddress::parse("unix:/run/names")};
        const std::vector<ResolveOptions> bad = {
            {.family = AF_UNIX}, {.timeout = 0s},    {.timeout = 61s},   {.tries = 0},
            {.tries = 11},       {.servers = local}, {.answers_max = 0},
        };
        std::size_t refused = 0;
        for (const ResolveOptions& options : bad) {
            try {
                co_await resolve("127.0.0.1", 80, options);
            } catch (const std::invalid_argument&) {
                ++refused;
            }
        }
        CHECK(refused == bad.size());
    });
}

TEST_CASE("getaddrinfo cannot be told whom to ask") {
    if (asks_servers())
        return;
    check([]() -> Coro<void> {
        const Addresses servers{SocketAddress::parse("127.0.0.1:53")};
        const Complaint c = co_await complaint_of(resolve("www.test", 80, {.servers = servers}));
        CHECK(c.code == std::errc::function_not_supported);
    });
}

TEST_CASE("errors have a category, with texts and conditions of their own") {
    CHECK(std::string(resolve_category().name()) == "resolve");
    CHECK(make_error_code(ResolveErrc::timed_out) == std::errc::timed_out);
    CHECK(make_error_code(ResolveErrc::host_not_found) != std::errc::timed_out);
    Texts texts;
    for (int error = 1; error <= static_cast<int>(ResolveErrc::unknown_service); ++error)
        texts.push_back(resolve_category().message(error));
    texts = sorted(texts);
    CHECK(std::ranges::adjacent_find(texts) == texts.end());
    CHECK(resolve_category().message(99) == "error 99");
}

/// Returns when all threads of run_in_thread have come together here: none does anything else.
static Coro<void> all_threads_free() {
    std::latch together{static_cast<std::ptrdiff_t>(run_in_thread_max)};
    co_await task_group([&](TaskGroup& group) -> Coro<void> {
        for (std::size_t n = 0; n < run_in_thread_max; ++n)
            co_await group.spawn(
                [&] { return run_in_thread([&] { together.arrive_and_wait(); }); });
    });
}

TEST_CASE("a look-up of localhost that is cancelled leaves nothing behind") {
    check([]() -> Coro<void> {
        Task<Complaint> task =
            co_await spawn(complaint_of(resolve("localhost", "no-such-service")));
        co_await yield_now();
        co_await task.cancel();
        CHECK(task.terminated());
        co_await all_threads_free(); // one may read the list of services still
    });
}

// --- what a name server answers ------------------------------------------------------------

TEST_CASE("addresses of both families are found, with the port asked for") {
    check(one_of_each, [](DnsServer& server) -> Coro<void> {
        const Addresses servers{server.address()};
        const Addresses both = co_await resolve("www.test", 443, ask(servers));
        CHECK(sorted(texts_of(both)) == Texts{"192.0.2.1:443", "[2001:db8::1]:443"});
    });
}

TEST_CASE("only one family is asked for, if one is wanted") {
    check(one_of_each, [](DnsServer& server) -> Coro<void> {
        const Addresses servers{server.address()};
        const Addresses v4 =
            co_await resolve("www.test", 1, {.family = AF_INET, .servers = servers});
        const std::size_t asked = server.count();
        const Addresses v6 =
            co_await resolve("www.test", 1, {.family = AF_INET6, .servers = servers});
        CHECK(texts_of(v4) == Texts{"192.0.2.1:1"});
        CHECK(asked == 1);
        CHECK(texts_of(v6) == Texts{"[2001:db8::1]:1"});
        CHECK(server.count() == 2);
    });
}

TEST_CASE("a host with IPv6 addresses alone is found") {
    check([](const DnsQuery& query) -> DnsReplies { return {reply(query).aaaa("2001:db8::6")}; },
          [](DnsServer& server) -> Coro<void> {
              const Addresses servers{server.address()};
              const Addresses found = co_await resolve("six.test", 80, ask(servers));
              CHECK(texts_of(found) == Texts{"[2001:db8::6]:80"});
          });
}

TEST_CASE("a chain of other names is followed") {
    check(
        [](const DnsQuery& query) -> DnsReplies {
            return {reply(query).cname("b.test").cname("c.test").a("192.0.2.3")};
        },
        [](DnsServer& server) -> Coro<void> {
            const Addresses servers{server.address()};
            const Addresses found = co_await resolve("a.test", 80, ask(servers));
            CHECK(texts_of(found) == Texts{"192.0.2.3:80"});
        });
}

TEST_CASE("a host without addresses has no data") {
    check([](const DnsQuery& query) -> DnsReplies { return {reply(query)}; },
          [](DnsServer& server) -> Coro<void> {
              const Addresses servers{server.address()};
              const Complaint c = co_await complaint_of(resolve("mail.test.", 80, ask(servers)));
              CHECK(c.code == ResolveErrc::no_data);
          });
}

TEST_CASE("a server that fails, and one that refuses, are told apart") {
    check(
        [](const DnsQuery& query) -> DnsReplies {
            return {reply(query).rcode(query.name.starts_with("refused") ? 5 : 2)};
        },
        [](DnsServer& server) -> Coro<void> {
            const Addresses servers{server.address()};
            const Complaint failed =
                co_await complaint_of(resolve("fails.test.", 80, ask(servers)));
            const Complaint refused =
                co_await complaint_of(resolve("refused.test.", 80, ask(servers)));
            CHECK(failed.text == "resolve fails.test.: the name server failed");
            CHECK(refused.text == "resolve refused.test.: the name server refused to answer");
        });
}

TEST_CASE("a server that does not answer times out after its tries") {
    check_on(
        {{}}, [](const DnsQuery&) -> DnsReplies { return {}; },
        [](DnsServer& server) -> Coro<void> {
            const Addresses servers{server.address()};
            const Complaint c = co_await complaint_of(
                resolve("silent.test.", 80,
                        {.family = AF_INET, .timeout = 2ms, .tries = 2, .servers = servers}));
            CHECK(c.code == std::errc::timed_out);
            CHECK(c.text == "resolve silent.test.: no name server answered in time");
            CHECK(server.count() == 2);
        });
}

TEST_CASE("a query that is lost is sent again") {
    const auto lost = std::make_shared<int>(0);
    check_on(
        {{}},
        [lost](const DnsQuery& query) -> DnsReplies {
            if ((*lost)++ % 2 == 0)
                return {};
            return {reply(query).a("192.0.2.1")};
        },
        [](DnsServer& server) -> Coro<void> {
            const Addresses servers{server.address()};
            const Addresses found = co_await resolve(
                "www.test", 80,
                {.family = AF_INET, .timeout = 2ms, .tries = 10, .servers = servers});
            CHECK(texts_of(found) == Texts{"192.0.2.1:80"});
            CHECK(server.count() >= 2);
        });
}

TEST_CASE("where no server listens none could be reached") {
    check(nothing_there, [](DnsServer&) -> Coro<void> {
        const test::NoDnsServer gone;
        const Addresses servers{gone.address()};
        const Complaint c =
            co_await complaint_of(resolve("www.test.", 80, {.tries = 1, .servers = servers}));
        CHECK(c.code == ResolveErrc::server_unreachable);
    });
}

TEST_CASE("if the first server is gone the second is asked") {
    check(one_of_each, [](DnsServer& server) -> Coro<void> {
        const test::NoDnsServer gone;
        const Addresses servers{gone.address(), server.address()};
        const Addresses found = co_await resolve("www.test", 80, ask(servers));
        CHECK(found.size() == 2);
    });
}

// --- answers that lie ----------------------------------------------------------------------

TEST_CASE("garbage is no answer") {
    check(
        [](const DnsQuery& query) -> DnsReplies {
            return {"", "x", std::string(2000, '\xff'), reply(query).a("192.0.2.1")};
        },
        [](DnsServer& server) -> Coro<void> {
            const Addresses servers{server.address()};
            const Complaint c = co_await complaint_of(
                resolve("www.test.", 80,
                        {.family = AF_INET, .timeout = 1s, .tries = 1, .servers = servers}));
            // What came first may be taken for a broken answer, or be passed over. c-ares 1.34
            // gives up the socket that it came by, and may see no answer then.
            CHECK((!c.code || c.code == ResolveErrc::bad_response ||
                   c.code == ResolveErrc::timed_out));
        });
}

TEST_CASE("an answer to another query is passed over") {
    check(
        [](const DnsQuery& query) -> DnsReplies {
            DnsQuery other = query;
            other.question[1] = 'x';
            return {reply(query).id(static_cast<std::uint16_t>(query.id + 1)).a("192.0.2.66"),
                    reply(other).a("192.0.2.67"), reply(query).a("192.0.2.1")};
        },
        [](DnsServer& server) -> Coro<void> {
            const Addresses servers{server.address()};
            const Addresses found = co_await resolve(
                "www.test", 80, {.family = AF_INET, .timeout = 20s, .servers = servers});
            CHECK(texts_of(found) == Texts{"192.0.2.1:80"});
        });
}

TEST_CASE("an answer that breaks off is a bad response") {
    check(
        [](const DnsQuery& query) -> DnsReplies {
            std::string text = reply(query).a("192.0.2.1").aaaa("2001:db8::1");
            text.resize(text.size() - 3);
            return {text};
        },
        [](DnsServer& server) -> Coro<void> {
            const Addresses servers{server.address()};
            const Complaint c =
                co_await complaint_of(resolve("www.test.", 80, {.tries = 1, .servers = servers}));
            CHECK(c.code == ResolveErrc::bad_response);
        });
}

TEST_CASE("whatever comes in place of an answer, a look-up ends") {
    const auto random = std::make_shared<std::minstd_rand>(1);
    check(
        [random](const DnsQuery& query) -> DnsReplies {
            const std::string right = reply(query).cname("b.test").a("192.0.2.1");
            std::string wrong = right;
            for (int changes = static_cast<int>((*random)() % 4); changes >= 0; --changes)
                wrong[2 + (*random)() % (wrong.size() - 2)] = static_cast<char>((*random)());
            if ((*random)() % 4 == 0)
                wrong.resize((*random)() % wrong.size());
            return {wrong, right};
        },
        [](DnsServer& server) -> Coro<void> {
            const Addresses servers{server.address()};
            int found = 0;
            int failed = 0;
            for (int i = 0; i < 50; ++i) {
                try {
                    co_await resolve(
                        "a.test.", 80,
                        {.family = AF_INET, .timeout = 20s, .tries = 1, .servers = servers});
                    ++found;
                } catch (const std::system_error& e) {
                    failed += e.code().category() == resolve_category();
                }
            }
            CHECK(found + failed == 50);
            CHECK(found > 0);
            CHECK(failed > 0);
        });
}

TEST_CASE("a truncated answer is asked for again over TCP") {
    check(
        [](const DnsQuery& query) -> DnsReplies {
            if (!query.tcp)
                return {reply(query).truncated()};
            return {reply(query).a("192.0.2.8").aaaa("2001:db8::8")};
        },
        [](DnsServer& server) -> Coro<void> {
            const Addresses servers{server.address()};
            const Addresses found = co_await resolve("big.test", 80, ask(servers));
            CHECK(sorted(texts_of(found)) == Texts{"192.0.2.8:80", "[2001:db8::8]:80"});
            CHECK(std::ranges::count(server.queries(), true, &DnsQuery::tcp) == 2);
        });
}

TEST_CASE("a TCP connection that ends in the middle of an answer is a failure") {
    check(
        [](const DnsQuery& query) -> DnsReplies {
            if (!query.tcp)
                return {reply(query).truncated()};
            return {reply(query).a("192.0.2.8")};
        },
        [](DnsServer& server) -> Coro<void> {
            server.tcp_bytes_max = 20;
            const Addresses servers{server.address()};
            const Complaint c = co_await complaint_of(
                resolve("big.test.", 80, {.family = AF_INET, .tries = 2, .servers = servers}));
            CHECK(c.code.category() == resolve_category());
            CHECK(c.code != ResolveErrc::host_not_found);
        });
}

TEST_CASE("of hundreds of addresses as many are answered as were asked for") {
    check(
        [](const DnsQuery& query) -> DnsReplies {
            if (!query.tcp)
                return {reply(query).truncated()};
            test::DnsReply all = reply(query);
            for (int i = 0; i < 500; ++i)
                all.a("10.1." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1));
            return {all};
        },
        [](DnsServer& server) -> Coro<void> {
            const Addresses servers{server.address()};
            const Addresses some = co_await resolve("farm.test", 80, ask(servers));
            const Addresses all = co_await resolve(
                "farm.test", 80, {.timeout = 20s, .servers = servers, .answers_max = SIZE_MAX});
            const Addresses one = co_await resolve(
                "farm.test", 80, {.timeout = 20s, .servers = servers, .answers_max = 1});
            CHECK(some.size() == 64);
            CHECK(all.size() == 500);
            CHECK(one.size() == 1);
            Texts texts = sorted(texts_of(all));
            CHECK(std::ranges::adjacent_find(texts) == texts.end());
        });
}

// --- more than one, and interrupted --------------------------------------------------------

TEST_CASE("many look-ups at once get each its own answer") {
    check(
        [](const DnsQuery& query) -> DnsReplies {
            return {reply(query).a("192.0.2." + query.name.substr(0, query.name.find('.')))};
        },
        [](DnsServer& server) -> Coro<void> {
            const Addresses servers{server.address()};
            std::vector<Task<Addresses>> tasks;
            for (int i = 1; i <= 20; ++i)
                tasks.push_back(
                    co_await spawn(resolve(std::to_string(i) + ".test", 80, ask(servers))));
            int right = 0;
            for (int i = 1; i <= 20; ++i) {
                const Addresses found = co_await tasks[static_cast<std::size_t>(i - 1)].join();
                right += texts_of(found) == Texts{"192.0.2." + std::to_string(i) + ":80"};
            }
            CHECK(right == 20);
        });
}

TEST_CASE("servers are copied at the call") {
    check(one_of_each, [](DnsServer& server) -> Coro<void> {
        Addresses servers{server.address()};
        Coro<Addresses> call = resolve("www.test", 80, ask(servers));
        servers.front() = SocketAddress::parse("192.0.2.53:53");
        const Addresses found = co_await std::move(call);
        CHECK(found.size() == 2);
    });
}

TEST_CASE("a look-up that takes too long is ended by a time limit") {
    check([](const DnsQuery&) -> DnsReplies { return {}; },
          [](DnsServer& server) -> Coro<void> {
              const Addresses servers{server.address()};
              const auto found =
                  co_await ignore_after(5ms, resolve("silent.test", 80, ask(servers)));
              CHECK_FALSE(found.has_value());
          });
}

TEST_CASE("a look-up may be cancelled at any point, and leaves nothing open") {
    const auto cancelled_over = [](bool tcp) {
        check(
            [tcp](const DnsQuery& query) -> DnsReplies {
                if (tcp && !query.tcp)
                    return {reply(query).truncated()};
                return one_of_each(query);
            },
            [](DnsServer& server) -> Coro<void> {
                const Addresses servers{server.address()};
                const std::vector<int> before = test::open_descriptors();
                int cancelled = 0;
                for (int turns = 0; turns < 400; ++turns) {
                    Task<Addresses> task = co_await spawn(resolve("www.test", 80, ask(servers)));
                    for (int i = 0; i < turns && !task.terminated(); ++i)
                        co_await yield_now();
                    const bool was = co_await task.cancel();
                    if (!was)
                        break;
                    ++cancelled;
                }
                CHECK(cancelled >= 3); // some engines need few turns
                // The server may hold a connection that it has not seen the end of.
                for (int i = 0; i < 1000 && test::open_descriptors() != before; ++i)
                    co_await yield_now();
                CHECK(test::open_descriptors() == before);
            });
    };
    cancelled_over(false);
    cancelled_over(true);
}

TEST_CASE("without descriptors the error says so, and later all is well") {
    check(one_of_each, [](DnsServer& server) -> Coro<void> {
        const Addresses servers{server.address()};
        rlimit before{};
        test::must(::getrlimit(RLIMIT_NOFILE, &before), "getrlimit");
        const auto none_left = static_cast<rlim_t>(test::open_descriptors().back() + 1);
        const rlimit tight{none_left, before.rlim_max};
        test::must(::setrlimit(RLIMIT_NOFILE, &tight), "setrlimit");
        std::vector<Descriptor> holes;
        for (int fd; (fd = ::dup(0)) >= 0;)
            holes.emplace_back(fd);
        const Complaint c = co_await complaint_of(resolve("www.test.", 80, ask(servers)));
        test::must(::setrlimit(RLIMIT_NOFILE, &before), "setrlimit");
        holes.clear();
        CHECK(c.code == std::errc::too_many_files_open);
        CHECK(c.text == "resolve www.test.: Too many open files");
        const Addresses found = co_await resolve("www.test", 80, ask(servers));
        CHECK(found.size() == 2);
    });
}
