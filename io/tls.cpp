#include "tls.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "../traps/cancel.hpp"
#include "../traps/event.hpp"
#include "../traps/lock.hpp"
#include "errors.hpp"
#include "tcp.hpp"
#include "tls_openssl.hpp"
#include "unix.hpp"

namespace trapline {

using namespace detail;

namespace {

/// Buffers for output that are larger are not kept: after a handshake, and after what was sent.
constexpr std::size_t handshake_bytes_kept = 2 * 1024;
constexpr std::size_t out_bytes_kept = 32 * 1024;
constexpr std::size_t in_bytes_min = 4 * 1024;
constexpr std::size_t in_bytes_max = 64 * 1024;
/// So many bytes are encrypted before the transport is asked: a few records at a time.
constexpr std::size_t chunk_bytes = 64 * 1024;
/// What may wait for a transport that takes nothing while the peer goes on making us answer.
constexpr std::size_t answers_bytes_max = 64 * 1024;
/// Patience with transports that take nothing: of answers and alerts while somebody wants to
/// receive, and of a close.
constexpr Duration answer_patience = std::chrono::milliseconds{20};
constexpr Duration close_patience = std::chrono::milliseconds{500};

enum class Step { done, wants_input, ended, failed };

} // namespace

// --- the state -----------------------------------------------------------------------------

/// OpenSSL sees memory alone: what the transport has brought, and what it shall take.
struct detail::TlsState {
    AnyStream transport;
    std::shared_ptr<const TlsContext> context;
    std::string peer; ///< for messages
    std::string host; ///< that the server must prove to be

    std::vector<std::byte> in;
    std::size_t in_begin = 0;
    std::size_t in_end = 0;
    std::size_t in_total = 0;
    bool in_ended = false; ///< the transport has

    std::vector<std::byte> out;     ///< records that nobody sends yet
    std::vector<std::byte> leaving; ///< what is sent now, and goes on first if that is interrupted
    std::size_t left = 0;           ///< of it: taken by the transport
    Lock sending;                   ///< of `leaving` and the transport's send side

    bool receives = false;        ///< a task is in recv
    bool sends = false;           ///< a task is in send_all
    bool shut = false;            ///< close_notify was made
    bool closed = false;          ///< or a task is about it
    Event gone;                   ///< the transport is closed
    std::error_code failure;      ///< of TLS: nothing more can be read or written
    std::error_code send_failure; ///< of the transport

    SslSessionOwner session;
    SslOwner ssl; // goes first: it sees the above

    TlsState(AnyStream over, std::shared_ptr<const TlsContext> shared)
        : transport(std::move(over)), context(std::move(shared)) {
        forget_tls_errors();
        ssl.reset(tls_new(SSL_new(context->ssl.get())));
        BIO* bio = tls_new(BIO_new(context->transport.get()));
        BIO_set_data(bio, this);
        BIO_set_init(bio, 1);
        SSL_set_bio(ssl.get(), bio, bio);
        SSL_set_app_data(ssl.get(), &session);
    }

    void drop_buffers_above(std::size_t bytes_kept) noexcept {
        if (out.empty() && out.capacity() > bytes_kept)
            out = {};
        if (left == leaving.size() && leaving.capacity() > bytes_kept && !sending.locked()) {
            leaving = {};
            left = 0;
        }
    }

    bool pending() const noexcept { return left < leaving.size() || !out.empty(); }

    /// Whether there is something that OpenSSL has not looked at.
    bool has_input() const noexcept { return in_begin < in_end || SSL_has_pending(ssl.get()); }

    /// What a call of OpenSSL's answer means. A failure is noted, and the thread's queue empty.
    Step judge(int answer) noexcept {
        if (answer == 1) [[likely]]
            return Step::done;
        switch (SSL_get_error(ssl.get(), answer)) {
        case SSL_ERROR_WANT_READ: return Step::wants_input;
        case SSL_ERROR_ZERO_RETURN: return Step::ended;
        default: failure = take_tls_error(); return Step::failed;
        }
    }

    std::string about(const char* operation) const {
        return operation + peer + (closed ? ", a stream that was closed here" : "");
    }
    std::string about(const char* operation, const std::error_code& code) const {
        return about(operation) + (code.category() == tls_category() ? ": TLS" : "");
    }
    [[noreturn]] void raise(const std::error_code& code, const char* operation) const {
        throw std::system_error(code, about(operation, code));
    }
    [[noreturn]] void raise(int error, const char* operation) const {
        raise_error(error, about(operation));
    }
};

namespace {

/// A receiver's or a sender's turn. Throws device_or_resource_busy if another task has it.
class Turn {
public:
    Turn(bool& taken, const TlsState& state, const char* what) : taken_(taken) {
        if (taken)
            state.raise(EBUSY, what);
        taken = true;
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() { taken_ = false; }

private:
    bool& taken_;
};

// --- what OpenSSL takes for a socket -------------------------------------------------------

int transport_read(BIO* bio, char* to, std::size_t size, std::size_t* got) {
    auto& state = *static_cast<TlsState*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    *got = std::min(size, state.in_end - state.in_begin);
    if (*got == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    std::memcpy(to, state.in.data() + state.in_begin, *got);
    state.in_begin += *got;
    return 1;
}

int transport_write(BIO* bio, const char* from, std::size_t size, std::size_t* taken) {
    auto& out = static_cast<TlsState*>(BIO_get_data(bio))->out;
    BIO_clear_retry_flags(bio);
    *taken = 0;
    try { // OpenSSL is written in C
        const auto* begin = reinterpret_cast<const std::byte*>(from);
        out.insert(out.end(), begin, begin + size);
    } catch (const std::bad_alloc&) {
        return 0;
    }
    *taken = size;
    return 1;
}

long transport_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH; }

// --- the transport -------------------------------------------------------------------------

/// Sends what is there to be sent, also what comes meanwhile. Interrupted it can be called again.
Coro<void> flush(TlsState& s) {
    const Lock::Guard held = co_await s.sending.hold();
    while (s.pending()) {
        if (s.send_failure)
            s.raise(s.send_failure, "send to ");
        if (s.left == s.leaving.size()) {
            s.leaving.clear();
            s.left = 0;
            std::swap(s.leaving, s.out);
        }
        try {
            co_await s.transport.send_all(std::span(s.leaving).subspan(s.left));
            s.left = s.leaving.size();
        } catch (const Cancelled& interrupt) {
            s.left += interrupt.progress();
            throw;
        } catch (const std::system_error& error) {
            s.send_failure = error.code();
            throw;
        }
    }
}

/// Alerts, and answers to the peer's requests, while somebody waits to receive. A transport that
/// takes nothing, because its peer waits for us to receive, must not keep us from that: then they
/// go out with what is sent next.
Coro<void> flush_answers(TlsState& s) {
    if (!s.pending() || s.sending.locked()) // who sends takes them along
        co_return;
    if (s.left < s.leaving.size()) { // it takes nothing: an earlier sender was stopped
        if (s.out.size() > answers_bytes_max) {
            s.failure = make_tls_code(TlsFault::too_long);
            s.raise(s.failure, "recv from ");
        }
        co_return;
    }
    Outcome<bool> outcome;
    co_await Attempt{ignore_after(answer_patience, flush(s)), outcome};
    if (outcome.has_failure() && is_interrupt(outcome.failure()))
        (void)outcome.take();
    // That sending fails is told to those who send.
}

/// Waits for more input.
Coro<void> fill(TlsState& s) {
    if (s.in_end == s.in.size() && s.in.size() < in_bytes_max) // the last one filled it
        s.in.resize(std::max(in_bytes_min, 2 * s.in.size()));
    const std::size_t got = co_await s.transport.recv(s.in);
    s.in_begin = 0;
    s.in_end = got;
    s.in_total += got;
    s.in_ended = got == 0;
}

/// Encrypts the beginning of the data, at most chunk_bytes. Answers how much.
std::size_t encrypt(TlsState& s, std::span<const std::byte> data) {
    data = data.first(std::min(data.size(), chunk_bytes));
    std::size_t done = 0;
    forget_tls_errors();
    while (done < data.size()) {
        std::size_t taken = 0;
        const int answer =
            SSL_write_ex(s.ssl.get(), data.data() + done, data.size() - done, &taken);
        if (s.judge(answer) != Step::done) {
            if (!s.failure) // it wants to read first: that is renegotiation, which is off
                s.failure = make_tls_code(TlsFault::protocol);
            break;
        }
        done += taken;
    }
    return done;
}

/// Each connection has a session object of its own: OpenSSL spoils it when the connection does not
/// end in order.
SslSessionOwner copy(SSL_SESSION& session) {
    return SslSessionOwner{tls_new(SSL_SESSION_dup(&session))};
}

// --- the handshake -------------------------------------------------------------------------

/// "example.org." is the same host as "example.org", and "[::1]" the address ::1.
std::string plain_host(std::string_view host) {
    if (host.contains('\0'))
        throw std::invalid_argument("TLS: a host's name with a null byte in it");
    if (host.starts_with('[') && host.ends_with(']'))
        host = host.substr(1, host.size() - 2);
    else if (host.ends_with('.'))
        host.remove_suffix(1);
    return std::string(host);
}

bool is_ip(const std::string& host) {
    std::array<unsigned char, 16> address;
    return inet_pton(AF_INET, host.c_str(), address.data()) == 1 ||
           inet_pton(AF_INET6, host.c_str(), address.data()) == 1;
}

/// Whom to ask for, and who must answer.
void expect_host(TlsState& s) {
    SSL* ssl = s.ssl.get();
    if (s.host.empty()) {
        if (s.context->verify)
            throw std::invalid_argument("TLS: without a host's name nobody can be verified");
        return;
    }
    X509_VERIFY_PARAM* checks = SSL_get0_param(ssl);
    const bool ip = is_ip(s.host);
    bool good = ip ? X509_VERIFY_PARAM_set1_ip_asc(checks, s.host.c_str()) == 1
                   : X509_VERIFY_PARAM_set1_host(checks, s.host.data(), s.host.size()) == 1;
    X509_VERIFY_PARAM_set_hostflags(checks, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                                X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (good && !ip)
        good = SSL_set_tlsext_host_name(ssl, s.host.c_str()) == 1;
    if (!good) {
        forget_tls_errors();
        throw std::invalid_argument("TLS: \"" + s.host + "\" is no host's name");
    }
}

/// "example.org (it is for a.org, b.org)".
std::string refused_host(const TlsState& s) {
    std::string text = s.host;
    STACK_OF(X509)* chain = SSL_get0_verified_chain(s.ssl.get());
    if (sk_X509_num(chain) <= 0)
        return text;
    std::string names;
    for (const std::string& name : names_of(*sk_X509_value(chain, 0)))
        names += (names.empty() ? "" : ", ") + name;
    return text + (names.empty() ? " (it names none)" : " (it is for " + names + ")");
}

[[noreturn]] void raise_handshake(const TlsState& s, std::error_code code) {
    std::string text = s.about("TLS handshake with ");
    const long verified = SSL_get_verify_result(s.ssl.get());
    if (code == TlsFault::protocol && verified != X509_V_OK &&
        ERR_GET_REASON(static_cast<unsigned>(code.value())) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        code = certificate_error(verified);
    if (code == certificate_error(X509_V_ERR_HOSTNAME_MISMATCH) ||
        code == certificate_error(X509_V_ERR_IP_ADDRESS_MISMATCH))
        text += ": certificate is not valid for host " + refused_host(s);
    else
        text += ": " + code.message();
    throw TlsHandshakeError(code, text);
}

Coro<void> handshake(TlsState& s, std::size_t bytes_max) {
    for (;;) {
        forget_tls_errors();
        const Step step = s.judge(SSL_do_handshake(s.ssl.get()));
        if (step == Step::failed) {
            const std::error_code failure = s.failure;
            co_await flush_answers(s); // the alert
            raise_handshake(s, failure);
        }
        if (step == Step::done)
            break;
        co_await flush(s);
        if (s.in_total >= bytes_max)
            raise_handshake(s, make_tls_code(TlsFault::too_long));
        co_await fill(s);
        if (s.in_ended)
            raise_handshake(s, make_tls_code(TlsFault::cut_off));
    }
    if (SSL_is_server(s.ssl.get()) && SSL_version(s.ssl.get()) == TLS1_3_VERSION)
        co_await flush_answers(s); // tickets: for them alone a client need not receive
    else
        co_await flush(s);
    s.drop_buffers_above(handshake_bytes_kept);
}

/// Starts to end the connection. False if that is a failure, which is noted.
bool make_close_notify(TlsState& s) noexcept {
    forget_tls_errors();
    // 0: the peer has not ended it yet, of which judge() knows nothing.
    return SSL_shutdown(s.ssl.get()) >= 0 || s.judge(-1) != Step::failed;
}

Coro<void> flush_for_a_while(TlsState& s) {
    try {
        co_await ignore_after(close_patience, flush(s));
    } catch (const std::system_error&) {
        // The peer has gone before.
    }
}

/// By a task of its own: the closing one may be masked, and no limit reaches it.
Coro<void> say_goodbye(TlsState& s) {
    const Task<> task = co_await spawn(flush_for_a_while(s));
    co_await task.wait();
}

/// Linux answers what lies unread at a close with a reset, which destroys what is still on its way
/// to the peer. A client that only sends always has some: TLS 1.3's tickets.
void drop_unread(TlsState& s) noexcept {
    const StreamSocket* socket = s.transport.get_if<TcpStream>();
    if (!socket)
        socket = s.transport.get_if<UnixStream>();
    if (!socket || s.receives) // who receives takes it
        return;
    std::array<std::byte, in_bytes_min> dropped;
    ssize_t got = 1;
    for (std::size_t all = 0; got > 0 && all < in_bytes_max; all += dropped.size())
        got = ::recv(socket->fd(), dropped.data(), dropped.size(), MSG_DONTWAIT);
}

Coro<void> close_all(TlsState& s) {
    if (!s.failure && !s.send_failure && !s.sending.locked()) {
        if (!std::exchange(s.shut, true))
            (void)make_close_notify(s);
        Outcome<void> outcome;
        if (s.pending())
            co_await Attempt{say_goodbye(s), outcome};
    }
    drop_unread(s);
    Outcome<void> outcome;
    co_await Attempt{s.transport.close(), outcome};
    s.gone.set();
    outcome.take();
}

} // namespace

BioMethodOwner detail::make_tls_transport() {
    BioMethodOwner method{tls_new(BIO_meth_new(BIO_TYPE_SOURCE_SINK, "Trapline's stream"))};
    BIO_meth_set_read_ex(method.get(), transport_read);
    BIO_meth_set_write_ex(method.get(), transport_write);
    BIO_meth_set_ctrl(method.get(), transport_control);
    return method;
}

// --- TlsStream -----------------------------------------------------------------------------

TlsStream::TlsStream() noexcept = default;
TlsStream::TlsStream(TlsStream&&) noexcept = default;
TlsStream& TlsStream::operator=(TlsStream&&) noexcept = default;
TlsStream::~TlsStream() = default;
TlsStream::TlsStream(TlsStateOwner state) noexcept : state_(std::move(state)) {}

Coro<TlsStream> TlsStream::connect(AnyStream transport, const TlsClientOptions& options) {
    const TlsClientContext context = options.context ? *options.context : TlsClientContext{};
    TlsStateOwner state{new TlsState(std::move(transport), context.shared())};
    SSL* ssl = state->ssl.get();
    state->peer = options.host;
    state->host = plain_host(options.host);
    if (state->peer.empty())
        state->peer = "a server without a name";
    expect_host(*state);
    if (options.session && *options.session) {
        const SslSessionOwner session = copy(*options.session->get());
        if (SSL_set_session(ssl, session.get()) != 1)
            throw std::system_error(take_tls_error(), state->about("TLS session with "));
    }
    SSL_set_connect_state(ssl);
    return shake_hands(std::move(state), options.limits);
}

Coro<TlsStream> TlsStream::accept(AnyStream transport, const TlsServerContext& context,
                                  const TlsHandshakeLimits& limits) {
    TlsStateOwner state{new TlsState(std::move(transport), context.shared())};
    const auto* tcp = state->transport.get_if<TcpStream>();
    state->peer = tcp ? tcp->peer_address().to_string() : "a client";
    SSL_set_accept_state(state->ssl.get());
    return shake_hands(std::move(state), limits);
}

Coro<TlsStream> TlsStream::shake_hands(TlsStateOwner state, TlsHandshakeLimits limits) {
    TlsState& s = *state;
    const bool in_time = co_await ignore_after(limits.time, handshake(s, limits.bytes_max));
    if (!in_time)
        s.raise(ETIMEDOUT, "TLS handshake with ");
    co_return TlsStream{std::move(state)};
}

TlsStateOwner TlsStream::state(const char* operation) const {
    if (!state_)
        raise_error(EBADF, operation + std::string("a TLS stream that was moved from"));
    if (state_->closed)
        state_->raise(EBADF, operation);
    return state_;
}

Coro<std::size_t> TlsStream::recv(std::span<std::byte> buffer) {
    constexpr const char* operation = "recv from ";
    const TlsStateOwner kept = state(operation);
    TlsState& s = *kept;
    if (buffer.empty())
        co_return 0;
    const Turn turn{s.receives, s, operation};
    for (;;) {
        if (s.failure)
            s.raise(s.failure, operation);
        if (s.has_input() || SSL_get_shutdown(s.ssl.get()) & SSL_RECEIVED_SHUTDOWN) {
            forget_tls_errors();
            std::size_t got = 0;
            switch (s.judge(SSL_read_ex(s.ssl.get(), buffer.data(), buffer.size(), &got))) {
            case Step::done: co_return got;
            case Step::ended: co_return 0;
            case Step::wants_input: break;
            case Step::failed: {
                const std::error_code failure = s.failure;
                co_await flush_answers(s); // the alert
                s.raise(failure, operation);
            }
            }
        }
        if (s.pending())
            co_await flush_answers(s);
        if (!s.in_ended)
            co_await fill(s);
        if (s.closed)
            s.raise(ECANCELED, operation);
        if (s.in_ended)
            s.raise(make_tls_code(TlsFault::cut_off), operation);
    }
}

Coro<void> TlsStream::send_all(std::span<const std::byte> data) {
    constexpr const char* operation = "send to ";
    const TlsStateOwner kept = state(operation);
    TlsState& s = *kept;
    const Turn turn{s.sends, s, operation};
    std::size_t sent = 0; // encrypted, hence on its way
    std::size_t gone = 0; // all of it taken by the transport
    const auto fail = [&](const std::error_code& code) {
        throw TransferError(code, s.about(operation, code), gone);
    };
    try {
        if (s.pending()) // of one that was cancelled
            co_await flush(s);
        while (sent < data.size()) {
            if (s.closed)
                fail({ECANCELED, std::system_category()});
            if (s.failure)
                fail(s.failure);
            if (s.shut)
                fail({EPIPE, std::system_category()});
            sent += encrypt(s, data.subspan(sent));
            co_await flush(s);
            gone = sent;
        }
        s.drop_buffers_above(out_bytes_kept);
    } catch (Cancelled& interrupt) {
        interrupt.set_progress(sent);
        throw;
    } catch (const std::system_error& error) { // of the transport: it counts other bytes
        fail(error.code());
    }
}

Coro<void> TlsStream::send_all(std::string_view text) {
    return send_all(std::as_bytes(std::span(text)));
}

Coro<void> TlsStream::shutdown() {
    constexpr const char* operation = "shutdown of stream to ";
    const TlsStateOwner kept = state(operation);
    TlsState& s = *kept;
    if (s.failure)
        s.raise(s.failure, operation);
    if (!std::exchange(s.shut, true) && !make_close_notify(s))
        s.raise(s.failure, operation);
    co_await flush(s);
}

Coro<void> TlsStream::close() {
    const TlsStateOwner kept = state_;
    if (kept && std::exchange(kept->closed, true)) // by another task: it may be about it still
        co_await disable_cancellation(kept->gone.wait());
    else if (kept)
        co_await disable_cancellation(close_all(*kept));
}

// --- asking --------------------------------------------------------------------------------

std::string TlsStream::alpn() const {
    const unsigned char* name = nullptr;
    unsigned size = 0;
    if (state_)
        SSL_get0_alpn_selected(state_->ssl.get(), &name, &size);
    return {reinterpret_cast<const char*>(name), size};
}

TlsVersion TlsStream::version() const {
    return state_ ? static_cast<TlsVersion>(SSL_version(state_->ssl.get())) : TlsVersion{};
}

std::string TlsStream::cipher() const {
    return state_ ? SSL_get_cipher_name(state_->ssl.get()) : "";
}

std::string TlsStream::server_name() const {
    const char* name =
        state_ ? SSL_get_servername(state_->ssl.get(), TLSEXT_NAMETYPE_host_name) : nullptr;
    return name ? name : "";
}

std::optional<TlsCertificate> TlsStream::peer_certificate() const {
    if (!state_)
        return std::nullopt;
    const X509Owner certificate{SSL_get1_peer_certificate(state_->ssl.get())};
    if (!certificate)
        return std::nullopt;
    return describe(*certificate);
}

TlsSession TlsStream::session() const {
    if (!state_ || !state_->session || SSL_SESSION_is_resumable(state_->session.get()) != 1)
        return {};
    return TlsSession{{copy(*state_->session).release(), SSL_SESSION_free}};
}

bool TlsStream::resumed() const noexcept {
    return state_ && SSL_session_reused(state_->ssl.get()) == 1;
}

AnyStream& TlsStream::transport() noexcept { return state_->transport; }

TlsStream::operator bool() const noexcept { return state_ && !state_->closed; }

} // namespace trapline
