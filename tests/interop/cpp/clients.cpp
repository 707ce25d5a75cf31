// Qpid Proton's C++ client, which knows nothing of the Service Bus. One container serves a scenario:
// its handler keeps what comes, and a script of steps is run on Proton's own thread.

#include <proton/binary.hpp>
#include <proton/connection.hpp>
#include <proton/connection_options.hpp>
#include <proton/container.hpp>
#include <proton/delivery.hpp>
#include <proton/error_condition.hpp>
#include <proton/message.hpp>
#include <proton/message_id.hpp>
#include <proton/messaging_handler.hpp>
#include <proton/receiver.hpp>
#include <proton/receiver_options.hpp>
#include <proton/reconnect_options.hpp>
#include <proton/sender.hpp>
#include <proton/sender_options.hpp>
#include <proton/source_options.hpp>
#include <proton/ssl.hpp>
#include <proton/target_options.hpp>
#include <proton/timestamp.hpp>
#include <proton/tracker.hpp>
#include <proton/transport.hpp>
#include <proton/types.hpp>
#include <proton/work_queue.hpp>

#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using Fields = std::map<std::string, std::string>;
using std::string;

static std::vector<string> next_line() {
    string line, word;
    if (!std::getline(std::cin, line)) std::exit(0);
    std::vector<string> words;
    std::istringstream in(line);
    while (std::getline(in, word, '\t')) words.push_back(word);
    return words;
}

static Fields read(const std::vector<string>& words, size_t from) {
    Fields found;
    for (size_t at = from; at < words.size(); ++at) {
        auto middle = words[at].find('=');
        found[words[at].substr(0, middle)] = words[at].substr(middle + 1);
    }
    return found;
}

static Fields call(const string& command, const Fields& given) {
    std::cout << "call\t" << command;
    for (auto& field : given) std::cout << '\t' << field.first << '=' << field.second;
    std::cout << std::endl;
    auto answer = next_line();
    if (answer.at(0) != "ok") throw std::runtime_error(answer.size() > 1 ? answer[1] : "refused");
    return read(answer, 1);
}

static void check(bool holds, const string& what) {
    if (!holds) throw std::runtime_error(what);
}

// The login and the transport of a connection.
static proton::connection_options login(const Fields& options, const string& token, bool tls) {
    proton::connection_options made;
    made.user("any").password(token).sasl_allowed_mechs("PLAIN").sasl_allow_insecure_mechs(true);
    if (tls) made.ssl_client_options(proton::ssl_client_options(options.at("ca")));
    return made;
}

static string where(const Fields& options, bool tls) {
    return tls ? "amqps://localhost:" + options.at("amqps") : "amqp://localhost:" + options.at("amqp");
}

struct Got {
    proton::message message;
    proton::delivery delivery;
};

// Each message goes to `on_got`; the scenario ends when it says so, or when something fails.
class Reader : public proton::messaging_handler {
  public:
    Fields options, made;
    int base = 0, credit = 10;
    bool tls = false, settled = false, reconnect = false;
    string below;
    std::vector<Got> got;
    std::function<void(Reader&)> on_got, on_ready;
    std::function<bool(Reader&)> on_detached;
    string fault;
    proton::connection connection;
    proton::receiver receiver;
    bool ready = false, over = false;

    explicit Reader(const Fields& given) : options(given), base(std::stoi(given.at("base"))) {
        made = call("subscribe", {{"base", given.at("base")}});
    }

    void publish(int offset, int count) {
        call("publish", {{"base", std::to_string(base + offset)}, {"count", std::to_string(count)}});
    }
    int state(const string& name) { return std::stoi(call("state", {{"id", made["id"]}}).at(name)); }
    int offset(const proton::message& message) {
        return int(proton::coerce<int64_t>(message.properties().get("value"))) - base;
    }

    void run() {
        auto token = call("token", {{"path", made["address"]}})["token"];
        proton::container container(*this);
        auto given = login(options, token, tls);
        if (reconnect) given.reconnect(proton::reconnect_options().delay(proton::duration(100)));
        connection = container.connect(where(options, tls), given);
        container.run();
        check(fault.empty(), fault);
    }

    void attach() {
        proton::receiver_options how;
        how.auto_accept(false).credit_window(0);
        if (settled) how.delivery_mode(proton::delivery_mode::AT_MOST_ONCE);
        receiver = connection.open_receiver(made["address"] + below, how);
        receiver.add_credit(credit);
    }

    void finish(const string& why = "") {
        if (over) return;
        over = true;
        fault = why;
        connection.close();
        connection.container().stop();
    }

    template <class Step> void guarded(Step step) {
        if (over) return;
        try { step(); } catch (const std::exception& error) { finish(error.what()); }
    }

    void on_connection_open(proton::connection& opened) override {
        if (opened.reconnected()) return;
        guarded([this] { attach(); });
    }
    void on_receiver_open(proton::receiver& opened) override {
        if (opened.connection().reconnected()) opened.add_credit(credit);
        if (ready) return;
        ready = true;
        guarded([this] { if (on_ready) on_ready(*this); });
    }
    void on_message(proton::delivery& delivery, proton::message& message) override {
        got.push_back({message, delivery});
        guarded([this] { on_got(*this); });
    }
    void on_receiver_error(proton::receiver& link) override {
        guarded([&] { if (!on_detached || !on_detached(*this)) finish(link.error().what()); });
    }
    void on_connection_error(proton::connection& lost) override {
        if (!reconnect) guarded([&] { finish(lost.error().what()); });
    }
    void on_transport_error(proton::transport& lost) override {
        if (!reconnect) guarded([&] { finish(lost.error().what()); });
    }
    void on_error(const proton::error_condition&) override {}

    // Outcomes have been given: wait until the service has them, then end.
    void finish_when(const string& name, int wanted, int tries = 200) {
        guarded([&] {
            if (state(name) == wanted) { finish(); return; }
            check(tries > 0, "waited in vain for " + name);
            connection.work_queue().schedule(proton::duration(20), [=] { finish_when(name, wanted, tries - 1); });
        });
    }
};

// Sends with a publisher's token, then ends.
class Writer : public proton::messaging_handler {
  public:
    std::vector<proton::message> messages;
    size_t accepted = 0;
    string fault;

    void run(const Fields& options) {
        auto token = call("publisher", {})["token"];
        proton::container container(*this);
        container.connect(where(options, false), login(options, token, false));
        container.run();
        check(fault.empty(), fault);
        check(accepted == messages.size(), "not everything was accepted");
    }
    void on_connection_open(proton::connection& opened) override { opened.open_sender("variables"); }
    void on_sendable(proton::sender& sender) override {
        if (sent_) return;
        sent_ = true;
        for (auto& message : messages) sender.send(message);
    }
    void on_tracker_accept(proton::tracker& tracker) override {
        if (++accepted == messages.size()) tracker.connection().close();
    }
    void on_tracker_reject(proton::tracker& tracker) override {
        fault = "rejected";
        tracker.connection().close();
    }
    void on_error(const proton::error_condition& error) override { fault = error.what(); }

  private:
    bool sent_ = false;
};

static proton::message make(int value, const string& body = "{}") {
    proton::message made;
    made.body(proton::binary(body));
    made.inferred(true);
    made.properties().put("value", int64_t(value));
    return made;
}

static void complete_all(Reader& reader, size_t count) {
    if (reader.got.size() < count) return;
    for (size_t at = 0; at < count; ++at) {
        check(reader.offset(reader.got[at].message) == int(at), "out of order");
        reader.got[at].delivery.accept();
    }
    reader.finish_when("backlog", 0);
}

static void reading(const Fields& options, int count, const std::function<void(Reader&)>& change) {
    Reader reader(options);
    reader.publish(0, count);
    reader.on_got = [count](Reader& self) { complete_all(self, count); };
    change(reader);
    reader.run();
}

static void disturbed(const Fields& options, const string& command) {
    Reader reader(options);
    reader.reconnect = true;
    reader.publish(0, 3);
    bool once = false;
    reader.on_detached = [](Reader& self) { self.attach(); return true; };
    reader.on_got = [&](Reader& self) {
        self.got.back().delivery.accept();
        std::vector<int> seen;
        for (auto& each : self.got) seen.push_back(self.offset(each.message));
        std::sort(seen.begin(), seen.end());
        seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
        if (seen.size() == 6) self.finish_when("backlog", 0);
        if (seen.size() != 3 || once) return;
        once = true;
        self.connection.work_queue().schedule(proton::duration(200), [&self, command] {
            self.guarded([&] {
                call(command, command == "detach" ? Fields{{"address", self.made["address"]}} : Fields{});
                self.publish(3, 3);
            });
        });
    };
    reader.run();
}

static void bury(const Fields& options, bool read_back) {
    Reader reader(options);
    reader.publish(0, 1);
    reader.on_got = [&](Reader& self) {
        if (self.got.size() == 1) {
            self.got[0].delivery.reject();
            if (!read_back) { self.finish_when("dead", 1); return; }
            self.below = "/$DeadLetterQueue";
            self.attach();
        } else {
            check(self.got[1].message.properties().exists("DeadLetterReason"), "no reason");
            self.got[1].delivery.accept();
            self.finish_when("dead", 0);
        }
    };
    reader.run();
}

static void sending(const Fields& options, const std::function<std::vector<proton::message>(int)>& build,
                    const std::vector<int>& order, const string& body = "") {
    Reader reader(options);
    reader.on_ready = [&](Reader& self) {
        Writer writer;
        writer.messages = build(self.base);
        writer.run(options);
    };
    reader.on_got = [&](Reader& self) {
        if (self.got.size() < order.size()) return;
        for (size_t at = 0; at < order.size(); ++at) {
            check(self.offset(self.got[at].message) == order[at], "out of order");
            self.got[at].delivery.accept();
        }
        if (!body.empty()) {
            auto found = proton::get<proton::binary>(self.got[0].message.body());
            check(string(found.begin(), found.end()) == body, "it has changed");
        }
        self.finish_when("backlog", 0);
    };
    reader.run();
}

static const std::map<string, std::function<void(const Fields&)>> scenarios = {
    {"complete", [](const Fields& o) { reading(o, 3, [](Reader&) {}); }},
    {"TLS", [](const Fields& o) { reading(o, 2, [](Reader& r) { r.tls = true; }); }},
    {"prefetch", [](const Fields& o) { reading(o, 200, [](Reader& r) { r.credit = 200; }); }},
    {"stream", [](const Fields& o) {
        reading(o, 20, [](Reader& r) {
            r.credit = 30;
            r.on_got = [](Reader& self) {
                self.got.back().delivery.accept();
                if (self.got.size() == 20) self.publish(20, 5);
                if (self.got.size() == 25) self.finish_when("backlog", 0);
            };
        });
    }},
    {"receive and delete", [](const Fields& o) {
        reading(o, 3, [](Reader& r) {
            r.settled = true;
            r.on_got = [](Reader& self) { if (self.got.size() == 3) self.finish_when("backlog", 0); };
        });
    }},
    {"abandon", [](const Fields& o) {
        reading(o, 1, [](Reader& r) {
            r.on_got = [](Reader& self) {
                auto& last = self.got.back();
                if (self.got.size() == 1) { last.delivery.modify(); return; }
                check(last.message.delivery_count() == 1, "delivery count");
                if (self.got.size() == 2) { last.delivery.release(); return; }
                last.delivery.accept();
                self.finish_when("backlog", 0);
            };
        });
    }},
    {"dead-letter", [](const Fields& o) { bury(o, false); }},
    {"dead-letter queue", [](const Fields& o) { bury(o, true); }},
    {"reconnect after a close", [](const Fields& o) { disturbed(o, "close"); }},
    {"reconnect after a restart", [](const Fields& o) { disturbed(o, "restart"); }},
    {"reconnect after a detach", [](const Fields& o) { disturbed(o, "detach"); }},
    {"send", [](const Fields& o) {
        sending(o, [](int base) { return std::vector<proton::message>{make(base)}; }, {0});
    }},
    {"send 900 KB", [](const Fields& o) {
        string body(900000, 'L');
        sending(o, [&](int base) { return std::vector<proton::message>{make(base, body)}; }, {0}, body);
    }},
    {"send scheduled", [](const Fields& o) {
        sending(o, [](int base) {
            auto later = make(base);
            later.message_annotations().put(
                "x-opt-scheduled-enqueue-time", proton::timestamp(proton::timestamp::now().milliseconds() + 2000));
            return std::vector<proton::message>{later, make(base + 1)};
        }, {1, 0});
    }},
};

int main() {
    for (;;) {
        auto line = next_line();
        try {
            scenarios.at(line.at(1))(read(line, 2));
            std::cout << "done\tpassed" << std::endl;
        } catch (const std::exception& error) {
            std::cout << "done\tfailed\t" << error.what() << std::endl;
        }
    }
}
