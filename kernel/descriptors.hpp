// Internal. Who uses which descriptor: the kernel's side of "one reader and one writer at a time",
// and of closing. Closing a descriptor ends nothing by itself on Linux: operations in flight keep
// the file open and go on (tests/ring/close_ends_nothing.cpp). So a Close waits here until they
// have been ended, and only then goes to the engine.
#pragma once

#include <cerrno>
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
        waits,   ///< a Close that must wait for what for_each_in_flight() shows
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
        default:
            for (DescriptorLink& at : operation.links) {
                if (Operation* closer = unlink(at))
                    may_go(*closer);
            }
        }
    }

    /// Ends the closing of fd.
    void closed(int fd) noexcept {
        if (fd >= 0 && static_cast<std::size_t>(fd) < entries_.size())
            entries_[static_cast<std::size_t>(fd)].closer = nullptr;
    }

    template <class F>
    void for_each_in_flight(int fd, F&& f) {
        const Entry at = entries_[static_cast<std::size_t>(fd)];
        if (at.reader)
            f(*at.reader);
        if (at.writer)
            f(*at.writer);
        for (DescriptorLink* link = at.others; link;) {
            DescriptorLink* next = link->next;
            f(link->operation());
            link = next;
        }
    }

private:
    struct Entry {
        Operation* reader = nullptr;      ///< in flight
        Operation* writer = nullptr;      ///< in flight
        DescriptorLink* others = nullptr; ///< in flight, on no side
        Operation* closer = nullptr;      ///< the Close that waits for all these

        bool in_use() const noexcept { return reader || writer || others; }
        Operation*& on(traps::Side side) noexcept {
            return side == traps::Side::read ? reader : writer;
        }
    };

    // A Recv or a Send needs no link: its request says where it is entered.

    Admission enter_stream(Operation& operation, int fd, Operation* Entry::* side) noexcept {
        const auto index = static_cast<std::size_t>(fd);
        if (index >= entries_.size()) [[unlikely]] // or negative
            return enter_other(operation);
        Entry& at = entries_[index];
        if (at.closer) [[unlikely]]
            return Admission::closing;
        if (at.*side) [[unlikely]]
            return Admission::busy;
        at.*side = &operation;
        return Admission::granted;
    }

    template <class F>
    void leave_stream(Operation& operation, int fd, Operation* Entry::* side, F& may_go) {
        const auto index = static_cast<std::size_t>(fd);
        if (index >= entries_.size() || entries_[index].*side != &operation) [[unlikely]]
            return; // it was never entered
        Entry& at = entries_[index];
        at.*side = nullptr;
        if (at.closer && !at.in_use()) [[unlikely]]
            may_go(*at.closer);
    }

    Entry* entry(int fd) noexcept;
    Admission enter_other(Operation& operation) noexcept;
    void link(Operation& operation, DescriptorLink& at, traps::DescriptorUse use) noexcept;
    Operation* unlink(DescriptorLink& at) noexcept;

    std::vector<Entry> entries_; // by descriptor number, which Linux keeps small
};

} // namespace trapline
