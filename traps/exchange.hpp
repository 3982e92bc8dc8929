// What queues and channels are made of: parties that wait, their offers to give an item or to take
// one, and the exchange where offers meet. Hand-over is direct: whoever finds an offer fulfils it
// and wakes its party, which has its item, or is rid of it, from then on.
//
// An offer lies in the awaiter of the task that makes it. Nothing allocates, and one that is
// destroyed leaves its line. A party that was interrupted may still stand in line until it runs:
// it waits no more, so it is passed over.
#pragma once

#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>

#include "trap_call.hpp"
#include "wait_queue.hpp"

namespace trapline::detail {

class Offer;
class OfferLine;

/// Ends the program: `primitive` is destroyed while the task with that frame waits on it.
[[noreturn]] void abort_destroyed(const char* primitive, const TrapFrame& waiting) noexcept;

/// A task that waits for one of its offers to be met, as an awaiter.
class Party : public ReplyAwaiter {
public:
    Party() noexcept = default;
    Party(Party&&) noexcept {} // nobody waits yet: an awaiter moves only before it is awaited
    Party& operator=(Party&&) = delete;

protected:
    /// Sleeps until one of its offers is met. They stand in line by now.
    template <class Promise>
    void park(std::coroutine_handle<Promise> self) noexcept {
        this->template yield<traps::Park>(self, &parked_);
    }

    /// Whether it waited. An interrupt is thrown: then no offer was met.
    bool check_reply() const {
        if (!asked())
            return false;
        const Reply& answer = reply();
        if (answer.failed()) [[unlikely]]
            raise_unanswered(trap_index<traps::Park>, answer.error());
        return true;
    }

    /// The offer that was met while it waited.
    const Offer* met() const noexcept { return met_; }

private:
    friend Offer;
    friend OfferLine;

    bool waits() const noexcept { return !parked_.empty(); }

    WaitQueue parked_; // its own: who is in here was neither woken nor interrupted
    Offer* met_ = nullptr;
};

/// One thing that a party waits for, and its place in line.
class Offer {
public:
    Offer() noexcept = default;
    Offer(Offer&&) noexcept {} // like a party
    Offer& operator=(Offer&&) = delete;
    ~Offer() { leave(); }

    /// Out of line; harmless when it is in none.
    void leave() noexcept;

    /// The party has what it waited for, and goes on. Its other offers stand no more.
    void meet() noexcept {
        leave();
        party_->met_ = this;
        party_->parked_.wake();
    }

private:
    friend OfferLine;
    OfferLine* line_ = nullptr;
    Offer* previous_; // while it is in line
    Offer* next_;
    Party* party_;
};

/// Offers of one kind, first come, first served.
class OfferLine {
public:
    OfferLine() = default;
    OfferLine(const OfferLine&) = delete;
    OfferLine& operator=(const OfferLine&) = delete;
    ~OfferLine() {
        while (first_)
            first_->leave();
    }

    /// `offer` of `party` stands here now, as the last one.
    void append(Offer& offer, Party& party) noexcept {
        offer.line_ = this;
        offer.party_ = &party;
        offer.previous_ = last_;
        offer.next_ = nullptr;
        (last_ ? last_->next_ : first_) = &offer;
        last_ = &offer;
    }

    /// The longest waiting, null if nobody waits.
    Offer* first() noexcept {
        while (first_ && !first_->party_->waits()) [[unlikely]]
            first_->leave();
        return first_;
    }

    /// For the destructor of `primitive`, which nobody may wait on any more.
    void check_vacant([[maybe_unused]] const char* primitive) noexcept {
#ifndef NDEBUG
        if (first()) [[unlikely]]
            abort_destroyed(primitive, first_->party_->frame());
#endif
    }

private:
    friend Offer;
    Offer* first_ = nullptr;
    Offer* last_ = nullptr;
};

inline void Offer::leave() noexcept {
    if (!line_)
        return;
    (previous_ ? previous_->next_ : line_->first_) = next_;
    (next_ ? next_->previous_ : line_->last_) = previous_;
    line_ = nullptr;
}

template <class T>
struct Giving : Offer {
    T* item = nullptr;
    bool accepted = false; ///< the item was moved out; if it is met without: closed
};

template <class T>
struct Taking : Offer {
    std::optional<T> item; ///< if it is met without one: closed
};

/// Items on their way from those who give to those who take. Up to `room` of them lie in the store,
/// whose kind decides the order; with more givers, the longest waiting one's item moves in as soon
/// as there is room. So givers wait only while the store is full, takers only while it is empty.
///
/// A store has size(), push(T&&), which throws nothing but std::bad_alloc and leaves the item alone
/// then, and pop(std::optional<T>&), which throws nothing and makes room for one push that does not
/// allocate.
template <class T, class Store>
class Exchange {
    static_assert(std::is_nothrow_move_constructible_v<T>,
                  "an item whose move may throw could be lost on its way: pass a pointer to it");

public:
    explicit Exchange(std::size_t room, Store&& store = {})
        : store_(std::move(store)), room_(room) {}

    /// Moves the item to a taker, or into the store. False, and the item is left alone, if there is
    /// neither, or it is closed.
    bool give(T& item) {
        if (closed_) [[unlikely]]
            return false;
        if (Offer* first = takers_.first()) {
            static_cast<Taking<T>&>(*first).item.emplace(std::move(item));
            first->meet();
        } else if (store_.size() < room_) {
            store_.push(std::move(item));
        } else {
            return false;
        }
        ++given_;
        return true;
    }

    /// Gets an item. False if there is none.
    bool take(std::optional<T>& item) noexcept {
        Offer* first = givers_.first();
        if (store_.size() != 0) {
            store_.pop(item);
            if (first)
                accept(*first, [this](T&& next) { store_.push(std::move(next)); });
        } else if (first) {
            accept(*first, [&item](T&& next) { item.emplace(std::move(next)); });
        } else {
            return false;
        }
        return true;
    }

    void wait_to_give(Giving<T>& offer, Party& party) noexcept { givers_.append(offer, party); }
    void wait_to_take(Taking<T>& offer, Party& party) noexcept { takers_.append(offer, party); }

    /// Nothing is given any more. All who wait are met without an item.
    void close() noexcept {
        closed_ = true;
        for (OfferLine* line : {&takers_, &givers_}) {
            while (Offer* first = line->first())
                first->meet();
        }
    }

    bool closed() const noexcept { return closed_; }
    std::size_t size() const noexcept { return store_.size(); }
    std::size_t room() const noexcept { return room_; }

    /// How many items were given since the beginning.
    std::size_t given() const noexcept { return given_; }

    void check_vacant(const char* primitive) noexcept {
        takers_.check_vacant(primitive);
        givers_.check_vacant(primitive);
    }

private:
    template <class Into>
    void accept(Offer& offer, Into into) noexcept {
        auto& giving = static_cast<Giving<T>&>(offer);
        into(std::move(*giving.item));
        giving.accepted = true;
        ++given_;
        giving.meet();
    }

    Store store_;
    std::size_t room_;
    std::size_t given_ = 0;
    OfferLine givers_;
    OfferLine takers_;
    bool closed_ = false;
};

} // namespace trapline::detail
