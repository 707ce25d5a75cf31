// Qpid Proton's C++ client, which knows nothing of the Service Bus. One container serves a scenario:
// its handler keeps what comes, and a script of steps is run on Proton's own thread.

#include "reader.hpp"

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

static Map settling(const string& outcome, const proton::uuid& token) {
    return {{"disposition-status", outcome}, {"lock-tokens", std::vector<proton::uuid>{token}}};
}

static Map by_number(int64_t number) {
    return {{"sequence-numbers", std::vector<int64_t>{number}}, {"receiver-settle-mode", uint32_t(1)}};
}

// The outcome `modified` of this client has no undeliverable-here: it is given by request.
static void defer(Reader& self) {
    auto& first = self.got.at(0);
    auto number = proton::get<int64_t>(first.message.message_annotations().get("x-opt-sequence-number"));
    self.manage("update-disposition", settling("defered", lock_token(first.delivery)), [&self, number](const auto& done) {
        check(status(done) == 200 && self.state("deferred") == 1, "not deferred");
        self.manage("receive-by-sequence-number", by_number(number), [&self, number](const auto& reply) {
            auto entry = list_in(reply, "messages").at(0);
            check(self.offset(inner(entry)) == 0, "another message");
            auto token = proton::get<proton::uuid>(proton::get<Map>(entry).at("lock-token"));
            self.manage("update-disposition", settling("completed", token), [&self, number](const auto& done) {
                check(status(done) == 200, "not completed");
                self.manage("receive-by-sequence-number", by_number(number), [&self](const auto& reply) {
                    check(status(reply) == 404, "it is found again");
                    self.finish_when("backlog", 0);
                });
            });
        });
    });
}

// So are properties.
static void properties(Reader& self) {
    auto& last = self.got.back();
    if (self.got.size() == 2) {
        check(proton::coerce<int>(last.message.properties().get("tries")) == 1, "no properties");
        check(last.message.delivery_count() == 1, "delivery count");
        last.delivery.accept();
        self.finish_when("backlog", 0);
        return;
    }
    auto body = settling("abandoned", lock_token(last.delivery));
    body["properties-to-modify"] = Map{{"tries", int32_t(1)}};
    self.manage("update-disposition", body, [](const auto& done) {
        check(status(done) == 200, "not abandoned");
    });
}

static void renew(Reader& self) {
    auto& first = self.got.at(0);
    auto before = proton::get<proton::timestamp>(first.message.message_annotations().get("x-opt-locked-until"));
    Map body = {{"lock-tokens", std::vector<proton::uuid>{lock_token(first.delivery)}}};
    self.later(1100, [&self, before, body] {
        self.manage("renew-lock", body, [&self, before](const auto& reply) {
            check(status(reply) == 200, "not renewed");
            auto ends = proton::get<std::vector<proton::timestamp>>(body_of(reply).at("expirations"));
            check(ends.at(0) > before, "the lock ends no later");
            self.got[0].delivery.accept();
            self.finish_when("backlog", 0);
        });
    });
}

static void peek(Reader& self) {
    self.publish(0, 5);
    Map body = {{"from-sequence-number", int64_t(1)}, {"message-count", int32_t(10)}};
    self.manage("peek-message", body, [&self, body](const auto& reply) mutable {
        auto found = list_in(reply, "messages");
        check(found.size() == 5, "not five");
        for (int at = 0; at < 5; ++at) check(self.offset(inner(found[at])) == at, "out of order");
        auto last = proton::get<int64_t>(inner(found[4]).message_annotations().get("x-opt-sequence-number"));
        body["from-sequence-number"] = last + 1;
        self.manage("peek-message", body, [&self](const auto& reply) {
            check(status(reply) == 204, "there is more");
            self.finish_when("backlog", 5);
        });
    });
}

static void rules(Reader& self) {
    Map body = {{"top", int32_t(100)}, {"skip", int32_t(0)}};
    self.manage("enumerate-rules", body, [&self](const auto& reply) {
        auto found = list_in(reply, "rules");
        std::ostringstream text;
        text << found.at(0);
        check(found.size() == 1 && text.str().find(self.made["filter"]) != string::npos, text.str());
        check(text.str().find("$Default") != string::npos, text.str());
        self.manage("add-rule", {{"rule-name", "mine"}}, [&self](const auto& reply) {
            check(status(reply) == 501, "a rule was added");
            self.finish();
        });
    });
}

static void token_renewal(const Fields& options) {
    Reader reader(options);
    reader.anonymous = true;
    reader.on_open = [](Reader& self) {
        self.put(3, [&self] { self.attach(); self.publish(0, 1); });
    };
    reader.on_got = [](Reader& self) {
        self.got.back().delivery.accept();
        int count = int(self.got.size());
        if (count == 6) { self.finish_when("backlog", 0); return; }
        self.later(1000, [&self, count] { self.put(3, [&self, count] { self.publish(count, 1); }); });
    };
    reader.run();
}

static void token_expiry(const Fields& options) {
    Reader reader(options);
    reader.anonymous = true;
    reader.on_open = [](Reader& self) {
        self.put(2, [&self] { self.attach(); self.publish(0, 1); });
    };
    reader.on_got = [](Reader& self) {
        self.got.back().delivery.accept();
        if (self.got.size() == 2) self.finish_when("backlog", 0);
    };
    reader.on_detached = [](Reader& self) {
        check(self.receiver.error().name() == "amqp:unauthorized-access", self.receiver.error().what());
        self.put(60, [&self] { self.attach(); self.publish(1, 1); });
        return true;
    };
    reader.run();
}

static void ten_receivers(const Fields& options) {
    Reader reader(options);
    reader.credit = 200;
    reader.wanted_open = 10;
    reader.on_open = [](Reader& self) { for (int n = 0; n < 10; ++n) self.attach(); };
    reader.on_ready = [](Reader& self) {
        check(self.state("receivers") == 10, "not ten receivers");
        self.publish(0, 200);
    };
    reader.on_got = [](Reader& self) {
        self.got.back().delivery.accept();
        if (self.got.size() < 200) return;
        std::vector<int> seen;
        for (auto& each : self.got) seen.push_back(self.offset(each.message));
        std::sort(seen.begin(), seen.end());
        for (int at = 0; at < 200; ++at) check(seen[at] == at, "not each once");
        self.finish_when("backlog", 0);
    };
    reader.run();
}

static void thousand(const Fields& options) {
    Reader reader(options);
    reader.path = "variables/Subscriptions";
    reader.wanted_open = 1000;
    reader.credit = 1;
    auto ids = call("subscribeMany", {{"base", options.at("base")}, {"count", "1000"}})["ids"];
    reader.on_open = [&ids](Reader& self) {
        std::istringstream in(ids);
        for (string id; std::getline(in, id, ',');) {
            self.made["address"] = self.path + "/" + id;
            self.attach();
        }
    };
    reader.on_ready = [](Reader& self) { self.publish(0, 1); };
    reader.on_got = [](Reader& self) {
        self.got.back().delivery.accept();
        if (self.got.size() == 1000) self.finish();
    };
    reader.run();
}

// Before any attach, or with the one message that there is.
static void asking(const Fields& options, const std::function<void(Reader&)>& step) {
    Reader reader(options);
    reader.on_open = step;
    reader.run();
}

static const std::map<string, std::function<void(const Fields&)>> scenarios = {
    {"defer", [](const Fields& o) { reading(o, 1, [](Reader& r) { r.on_got = defer; }); }},
    {"renew", [](const Fields& o) { reading(o, 1, [](Reader& r) { r.on_got = renew; }); }},
    {"properties", [](const Fields& o) { reading(o, 1, [](Reader& r) { r.on_got = properties; }); }},
    {"peek", [](const Fields& o) { asking(o, peek); }},
    {"rules", [](const Fields& o) { asking(o, rules); }},
    {"token renewal", token_renewal},
    {"token expiry", token_expiry},
    {"ten receivers", ten_receivers},
    {"a thousand subscriptions", thousand},
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
