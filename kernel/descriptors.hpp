// Internal. Who uses which descriptor: the kernel's side of "one reader and one writer at a time",
// and of closing. Closing a descriptor ends nothing by itself on Linux: operations in flight keep
// the file open and go on (tests/ring/close_ends_nothing.cpp). So a Close waits here until they
// have been ended, and only then goes to the engine.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine.hpp"

namespace trapline {

class Descriptors {
public:
    enum class Admission : std::uint8_t {
        granted,
        busy,    ///< another operation is on the same side
        closing, ///< a Close of the descriptor is under way
        waits,   ///< a Close that must wait for for_each_on_a_side() and others_on() tell of
        no_memory,
    };

    /// What the task that asked is told of a refusal; 0 if it is none.
    static constexpr int error_of(Admission admission) noexcept {
        switch (admission) {
        case Admission::busy: return EBUSY;
        case Admission::closing: return EBADF;
        case Admission::no_memory: return ENOMEM;
        case Admission::granted:
        case Admission::waits: break;
        }
        return 0;
    }

    /// Enters an operation; unless granted, it is not entered.
    [[gnu::always_inline]] Admission enter(Operation& operation) noexcept {
        const traps::IoRequest& request = *operation.request;
        switch (request.index()) { // nearly all that a server does
        case traps::request_index<traps::Recv>:
            return enter_stream(operation, std::get_if<traps::Recv>(&request)->fd, &Entry::reader);
        case traps::request_index<traps::Receive>:
            return enter_stream(operation, std::get_if<traps::Receive>(&request)->fd,
                                &Entry::reader);
        case traps::request_index<traps::Send>:
            return enter_stream(operation, std::get_if<traps::Send>(&request)->fd, &Entry::writer);
        default: return enter_other(operation);
        }
    }

    /// Enters one that ends all others on fd: a Close, or a release of fd.
    Admission enter_closing(Operation& operation, int fd) noexcept;

    /// Takes an operation out. Calls may_go(closer) for each closing one that waited for it alone.
    template <class F>
    [[gnu::always_inline]] void leave(Operation& operation, F&& may_go) {
        const traps::IoRequest& request = *operation.request;
        switch (request.index()) {
        case traps::request_index<traps::Recv>:
            return leave_stream(operation, std::get_if<traps::Recv>(&request)->fd, &Entry::reader,
                                may_go);
        case traps::request_index<traps::Receive>:
            return leave_stream(operation, std::get_if<traps::Receive>(&request)->fd,
                                &Entry::reader, may_go);
        case traps::request_index<traps::Send>:
            return leave_stream(operation, std::get_if<traps::Send>(&request)->fd, &Entry::writer,
                                may_go);
        default: leave_other(operation, may_go);
        }
    }

    /// Ends the closing of fd.
    void closed(int fd) noexcept {
        if (fd >= 0 && static_cast<std::size_t>(fd) < size_)
            first_[static_cast<std::size_t>(fd)] = {};
    }

    /// Calls f(operation) for those in flight on fd that have a side. Of the others only the number
    /// is known here: others_on().
    template <class F>
    void for_each_on_a_side(int fd, F&& f) {
        const Entry at = first_[static_cast<std::size_t>(fd)];
        if (Operation* reader = Entry::operation(at.reader))
            f(*reader);
        if (Operation* writer = Entry::operation(at.writer))
            f(*writer);
    }

    /// How many are in flight on fd that have no side; occupies_no_side() says which.
    std::size_t others_on(int fd) const noexcept {
        return first_[static_cast<std::size_t>(fd)].others();
    }

    /// Whether `request` is one of these, when it is in flight.
    static bool occupies_no_side(const traps::IoRequest& request, int fd) noexcept;

private:
    /// One for each connection, so it is small. Who is entered where needs no note beside the
    /// operation: its request says that.
    struct Entry {
        /// A side: the operation in flight on it, or 0. During a Close the lowest bit is set: a
        /// look at the side alone tells those who come that it is not free.
        using Side = std::uintptr_t;
        static constexpr std::uintptr_t closing_bit = 1;

        Side reader = 0;
        Side writer = 0;

        /// Twice the number of those in flight on no side. Or the Close that waits for all of them,
        /// with the bit set; it counts them then, as what it has transferred: that ends at 0.
        std::uintptr_t rest = 0;

        static Side side_of(const Operation& operation) noexcept {
            return reinterpret_cast<Side>(&operation);
        }
        static Operation* operation(Side side) noexcept {
            return reinterpret_cast<Operation*>(side & ~closing_bit);
        }
        Side& on(traps::Side side) noexcept { return side == traps::Side::read ? reader : writer; }

        bool closing() const noexcept { return (rest & closing_bit) != 0; }
        Operation& closer() const noexcept { return *operation(rest); }
        std::size_t others() const noexcept {
            return closing() ? closer().transferred : std::size_t{rest >> 1};
        }
        bool in_use() const noexcept {
            return operation(reader) || operation(writer) || others() > 0;
        }
    };
    static_assert(sizeof(Entry) <= 24);
    static_assert(alignof(Operation) >= 2);

    Admission enter_stream(Operation& operation, int fd, Entry::Side Entry::* side) noexcept {
        const auto index = static_cast<std::size_t>(fd);
        if (index >= size_) [[unlikely]] // or negative
            return enter_other(operation);
        Entry& at = first_[index];
        if (at.*side != 0) [[unlikely]]
            return at.closing() ? Admission::closing : Admission::busy;
        at.*side = Entry::side_of(operation);
        return Admission::granted;
    }

    template <class F>
    void leave_stream(Operation& operation, int fd, Entry::Side Entry::* side, F& may_go) {
        const auto index = static_cast<std::size_t>(fd);
        if (index >= size_) [[unlikely]]
            return; // it was never entered
        Entry& at = first_[index];
        if (at.*side == Entry::side_of(operation)) [[likely]]
            at.*side = 0;
        else if (at.closing())
            leave_other(operation, may_go);
    }

    template <class F>
    [[gnu::noinline]] void leave_other(Operation& operation, F& may_go) {
        if (std::holds_alternative<traps::Close>(*operation.request))
            return; // see closed()
        const traps::DescriptorUses uses = traps::descriptors_of(*operation.request);
        for (const traps::DescriptorUse& use : {uses.first, uses.second}) {
            if (Operation* closer = take_out(operation, use))
                may_go(*closer);
        }
    }

    Entry* entry(int fd) noexcept;
    Admission enter_other(Operation& operation) noexcept;
    void put_in(Operation& operation, traps::DescriptorUse use) noexcept;
    Operation* take_out(Operation& operation, traps::DescriptorUse use) noexcept;

    std::vector<Entry> entries_; // by descriptor number, which Linux keeps small
    Entry* first_ = nullptr;     // where they lie, and how many they are: to look it up in the
    std::size_t size_ = 0;       // vector takes a multiplication
};

} // namespace trapline
