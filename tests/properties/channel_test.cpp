// Random programs over two channels, with and without capacity, and selects over both. Each item
// that was sent is received once, or left; exactly one case of a select happens, and the others
// leave everything as it was; who asked first is served first; nobody waits who could go on.
#include "programs.hpp"

#include <optional>
#include <string>
#include <utility>

#include <trapline/traps/channel.hpp>
#include <trapline/traps/select.hpp>

#include "items.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

/// A channel, and what is known of it.
struct Lane {
    explicit Lane(std::size_t capacity) : channel(capacity) {}

    Channel<Item> channel;
    Ledger ledger;
    int sending = 0;
    int receiving = 0;
    int both = 0; ///< selects that send or receive, here

    std::string complaint_at_rest() const {
        const bool empty = channel.size() == 0;
        const bool full = channel.size() == channel.capacity();
        if (receiving + both > 0 && (!empty || channel.closed()))
            return "a receive waits although there is an item, or the channel is closed";
        if (sending + both > 0 && (!full || channel.closed()))
            return "a send waits although there is room, or the channel is closed";
        if (both + (sending > 0) + (receiving > 0) > 1)
            return "a send and a receive wait for each other";
        return "";
    }

    std::string complaint() {
        if (sending + receiving + both != 0)
            return "somebody still waits";
        if (!ledger.in_order())
            return "an item was not received by the one who asked first";
        return ledger.complaint();
    }
};

/// A send or a receive of a program, as a case of a select or on its own.
class Sending {
public:
    explicit Sending(Lane& lane)
        : lane_(lane),
          number_(lane.ledger.new_number()),
          item_(number_),
          closed_(lane.channel.closed()) {}

    auto as_case() { return lane_.channel.sending(std::move(item_), &sent_); }
    Item& item() noexcept { return item_; }

    void happened() { happened(sent_); }
    void happened(bool sent) {
        if (sent)
            lane_.ledger.given(number_);
        else if (!lane_.channel.closed())
            lane_.ledger.complain("an open channel refused an item");
        if (sent && closed_)
            lane_.ledger.complain("a closed channel took an item");
        if (sent == (item_.number() == number_))
            lane_.ledger.complain("an item to be sent is not where it should be");
    }
    void did_not_happen() {
        if (sent_ || item_.number() != number_)
            lane_.ledger.complain("a send that did not happen took its item");
    }

private:
    Lane& lane_;
    int number_;
    Item item_;
    bool closed_;
    bool sent_ = false;
};

class Receiving {
public:
    explicit Receiving(Lane& lane) : lane_(lane), ticket_(lane.ledger.new_ticket()) {}

    auto as_case() { return lane_.channel.receiving(item_); }
    std::optional<Item>& item() noexcept { return item_; }

    void happened() {
        if (item_)
            lane_.ledger.taken(ticket_, item_->number());
        else if (!lane_.channel.closed() || lane_.channel.size() != 0)
            lane_.ledger.complain("a channel that is open, or not empty, was called closed");
    }
    void did_not_happen() {
        if (item_)
            lane_.ledger.complain("a receive that did not happen left an item");
    }

private:
    Lane& lane_;
    std::size_t ticket_;
    std::optional<Item> item_;
};

class UseChannels {
public:
    static constexpr bool always_ends = true; // at the latest when finish() closes the channels

    explicit UseChannels(World& world) : first_(world.below(3)), second_(world.below(3)) {}

    Coro<void> step(World& world) {
        Lane& lane = any(world);
        Lane& other = any(world);
        switch (world.below(16)) {
        case 0: try_send(lane); return World::nothing();
        case 1: try_receive(lane); return World::nothing();
        case 2:
            if (world.one_in(8))
                lane.channel.close();
            return World::nothing();
        case 3:
        case 4:
        case 5: return send(world, lane);
        case 6:
        case 7:
        case 8: return receive(world, lane);
        case 9:
        case 10: return select_of<Receiving, Receiving>(world, lane, other);
        case 11:
        case 12: return select_of<Sending, Sending>(world, lane, other);
        case 13: return select_of<Receiving, Sending>(world, lane, other);
        default: return select_of<Sending, Receiving>(world, lane, other);
        }
    }

    std::string complaint_at_rest() {
        const std::string complaint = first_.complaint_at_rest();
        return complaint.empty() ? second_.complaint_at_rest() : complaint;
    }

    void finish() {
        for (Lane* lane : {&first_, &second_}) {
            lane->channel.close();
            while (lane->channel.size() != 0)
                try_receive(*lane);
        }
    }

    std::string complaint() {
        const std::string complaint = first_.complaint();
        return complaint.empty() ? second_.complaint() : complaint;
    }

private:
    Lane& any(World& world) noexcept { return world.one_in(2) ? first_ : second_; }

    Coro<void> send(World& world, Lane& lane) {
        const test::Counted frame;
        Sending sending{lane};
        bool sent = false;
        {
            const Among senders{lane.sending};
            sent = co_await lane.channel.send(std::move(sending.item()));
        }
        // The item went into the awaiter: one that was refused is gone with it.
        if (!sent && !lane.channel.closed())
            lane.ledger.complain("an open channel refused an item");
        if (sent)
            sending.happened(true);
        co_await world.note_result();
        co_await world.pause();
    }

    Coro<void> receive(World& world, Lane& lane) {
        const test::Counted frame;
        Receiving receiving{lane};
        {
            const Among receivers{lane.receiving};
            receiving.item() = co_await lane.channel.receive();
        }
        receiving.happened();
        co_await world.note_result();
        co_await world.pause();
    }

    void try_send(Lane& lane) {
        Sending sending{lane};
        const bool can = !lane.channel.closed() && lane.channel.size() < lane.channel.capacity();
        const bool sent = lane.channel.try_send(std::move(sending.item()));
        if (can && !sent)
            lane.ledger.complain("try_send: there was room");
        if (sent)
            sending.happened(true);
        else
            sending.did_not_happen();
    }

    void try_receive(Lane& lane) {
        Receiving receiving{lane};
        const bool can = lane.channel.size() != 0;
        receiving.item() = lane.channel.try_receive();
        if (can && !receiving.item())
            lane.ledger.complain("try_receive: there was an item");
        if (receiving.item())
            receiving.happened();
    }

    static int& waiting(Sending&, Lane& lane) noexcept { return lane.sending; }
    static int& waiting(Receiving&, Lane& lane) noexcept { return lane.receiving; }

    template <class A, class B>
    Coro<void> select_of(World& world, Lane& lane, Lane& other) {
        const test::Counted frame;
        A a{lane};
        B b{other};
        std::size_t place = 0;
        {
            const bool meets_itself = &lane == &other && !std::same_as<A, B>;
            const Among waiting_a{meets_itself ? lane.both : waiting(a, lane)};
            const Among waiting_b{meets_itself ? ignored_ : waiting(b, other)};
            switch (world.below(4)) {
            case 0: place = co_await select(a.as_case(), b.as_case(), after(world.moment())); break;
            case 1:
                place = co_await select(after(world.moment()), a.as_case(), b.as_case());
                place = (place + 2) % 3; // as if it came last
                break;
            default: place = co_await select(a.as_case(), b.as_case()); break;
            }
        }
        place == 0 ? a.happened() : a.did_not_happen();
        place == 1 ? b.happened() : b.did_not_happen();
        co_await world.note_result();
        co_await world.pause();
    }

    Lane first_;
    Lane second_;
    int ignored_ = 0;
};

} // namespace

TEST_CASE("channels lose and double nothing, and a select lets one case happen") {
    run<UseChannels>("Channel");
}
