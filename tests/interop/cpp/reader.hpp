// What all scenarios of the C++ client share: how it talks to the tests (see clients/protocol.py), a
// reader of a feed that can ask a node too, and a writer.

#pragma once

#include <proton/binary.hpp>
#include <proton/codec/map.hpp>
#include <proton/codec/vector.hpp>
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
#include <proton/uuid.hpp>
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

inline std::vector<string> next_line() {
    string line, word;
    if (!std::getline(std::cin, line)) std::exit(0);
    std::vector<string> words;
    std::istringstream in(line);
    while (std::getline(in, word, '\t')) words.push_back(word);
    return words;
}

inline Fields read(const std::vector<string>& words, size_t from) {
    Fields found;
    for (size_t at = from; at < words.size(); ++at) {
        auto middle = words[at].find('=');
        found[words[at].substr(0, middle)] = words[at].substr(middle + 1);
    }
    return found;
}

inline Fields call(const string& command, const Fields& given) {
    std::cout << "call\t" << command;
    for (auto& field : given) std::cout << '\t' << field.first << '=' << field.second;
    std::cout << std::endl;
    auto answer = next_line();
    if (answer.at(0) != "ok") throw std::runtime_error(answer.size() > 1 ? answer[1] : "refused");
    return read(answer, 1);
}

inline void check(bool holds, const string& what) {
    if (!holds) throw std::runtime_error(what);
}

// The login and the transport of a connection.
inline proton::connection_options login(const Fields& options, const string& token, bool tls) {
    proton::connection_options made;
    if (token.empty()) {
        made.user("anonymous").sasl_allowed_mechs("ANONYMOUS");
    } else {
        made.user("any").password(token).sasl_allowed_mechs("PLAIN").sasl_allow_insecure_mechs(true);
    }
    if (tls) made.ssl_client_options(proton::ssl_client_options(options.at("ca")));
    return made;
}

inline string where(const Fields& options, bool tls) {
    return tls ? "amqps://localhost:" + options.at("amqps") : "amqp://localhost:" + options.at("amqp");
}

struct Got {
    proton::message message;
    proton::delivery delivery;
};

using Map = std::map<string, proton::value>;
using Reply = std::function<void(const proton::message&)>;

inline const string replies_name = "replies";

inline Map body_of(const proton::message& reply) { return proton::get<Map>(reply.body()); }

inline std::vector<proton::value> list_in(const proton::message& reply, const string& name) {
    return proton::get<std::vector<proton::value>>(body_of(reply).at(name));
}

inline proton::message inner(const proton::value& entry) {
    auto raw = proton::get<proton::binary>(proton::get<Map>(entry).at("message"));
    proton::message found;
    found.decode(std::vector<char>(raw.begin(), raw.end()));
    return found;
}

inline int status(const proton::message& reply) {
    auto& given = reply.properties();
    return int(proton::get<int32_t>(given.get(given.exists("statusCode") ? "statusCode" : "status-code")));
}

// A delivery's tag is its lock token, in the byte order of .NET.
inline proton::uuid lock_token(const proton::delivery& delivery) {
    auto tag = delivery.tag();
    static const int order[] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    proton::uuid made;
    for (int at = 0; at < 16; ++at) made[at] = tag[order[at]];
    return made;
}

// Each message goes to `on_got`; the scenario ends when it says so, or when something fails.
class Reader : public proton::messaging_handler {
  public:
    Fields options, made;
    int base = 0, credit = 10;
    bool tls = false, settled = false, reconnect = false, anonymous = false;
    string below, path;
    std::vector<Got> got;
    std::function<void(Reader&)> on_got, on_ready, on_open;
    std::function<bool(Reader&)> on_detached;
    string fault;
    proton::connection connection;
    proton::receiver receiver;
    bool ready = false, over = false;
    size_t open_count = 0, wanted_open = 1;

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
        auto token = anonymous ? "" : call("token", {{"path", path.empty() ? made["address"] : path}})["token"];
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

    // Asks a node that answers; `then` gets the reply, on Proton's thread as everything.
    void ask(const string& node, const Map& properties, const proton::value& body, const Reply& then) {
        if (asked_.empty()) {
            proton::receiver_options how;
            connection.open_receiver(node, how.name(replies_name).credit_window(50));
            requests_ = connection.open_sender(node);
        }
        check(asked_.empty() || asked_ == node, "another node");
        asked_ = node;
        then_ = then;
        proton::message request;
        request.id(++number_);
        for (auto& each : properties) request.properties().put(each.first, proton::get<string>(each.second));
        request.body(body);
        requests_.send(request);
    }
    void manage(const string& operation, const Map& body, const Reply& then) {
        ask(made["address"] + "/$management", {{"operation", "com.microsoft:" + operation}}, body, then);
    }
    void put(int seconds, const std::function<void()>& then) {
        auto token = call("token", {{"path", made["address"]}, {"seconds", std::to_string(seconds)}})["token"];
        Map how = {{"operation", "put-token"}, {"type", "servicebus.windows.net:sastoken"},
                   {"name", "amqp://localhost/" + made["address"]}};
        ask("$cbs", how, token, [then](const proton::message& reply) {
            check(status(reply) == 200, "no token taken");
            then();
        });
    }
    template <class Step> void later(int ms, Step step) {
        connection.work_queue().schedule(proton::duration(ms), [this, step] { guarded(step); });
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
        guarded([this] { if (on_open) on_open(*this); else attach(); });
    }
    void on_receiver_open(proton::receiver& opened) override {
        if (opened.name() == replies_name) return;
        if (opened.connection().reconnected()) opened.add_credit(credit);
        if (++open_count < wanted_open || ready) return;
        ready = true;
        guarded([this] { if (on_ready) on_ready(*this); });
    }
    void on_message(proton::delivery& delivery, proton::message& message) override {
        if (delivery.receiver().name() == replies_name) {
            auto then = then_;
            guarded([&] {
                check(proton::coerce<uint64_t>(message.correlation_id()) == number_, "correlation");
                then(message);
            });
            return;
        }
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

  private:
    string asked_;
    Reply then_;
    proton::sender requests_;
    uint64_t number_ = 0;
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

inline proton::message make(int value, const string& body = "{}") {
    proton::message made;
    made.body(proton::binary(body));
    made.inferred(true);
    made.properties().put("value", int64_t(value));
    return made;
}
