import jakarta.jms.BytesMessage;
import jakarta.jms.Connection;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.ObjectMessage;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.qpid.jms.JmsConnectionFactory;
import org.apache.qpid.proton.amqp.Binary;
import org.apache.qpid.proton.amqp.DescribedType;
import org.apache.qpid.proton.amqp.Symbol;

/** Qpid JMS, which knows nothing of the Service Bus: SASL PLAIN with the token as the password. */
public final class JmsClients {
    private interface Step {
        void run(Feed feed) throws Exception;
    }

    /** Qpid JMS settles a message with this outcome when its property JMS_AMQP_ACK_TYPE says so. */
    private static final int REJECTED = 2;
    private static final int RELEASED = 3;
    private static final int MODIFIED_FAILED = 4;
    private static final int MODIFIED_FAILED_UNDELIVERABLE = 5;
    private static final int INDIVIDUAL = 101;

    /** A node that answers requests: bodies are maps of AMQP's own types. */
    private static final class Node {
        final Session session;
        final Queue queue;
        final MessageConsumer replies;
        final MessageProducer requests;

        Node(Session session, String address) throws Exception {
            this.session = session;
            queue = session.createQueue(address);
            replies = session.createConsumer(queue);
            requests = session.createProducer(queue);
        }

        Message ask(Message request, Map<String, String> properties) throws Exception {
            for (Map.Entry<String, String> each : properties.entrySet()) {
                request.setStringProperty(each.getKey(), each.getValue());
            }
            request.setJMSReplyTo(queue);
            requests.send(request);
            Message reply = replies.receive(10_000);
            Protocol.check(reply != null, "no reply");
            Protocol.check(request.getJMSMessageID().equals(reply.getJMSCorrelationID()), "correlation");
            reply.acknowledge();
            return reply;
        }

        Message ask(String operation, Map<String, Object> body) throws Exception {
            ObjectMessage request = session.createObjectMessage();
            request.setBooleanProperty("JMS_AMQP_TYPED_ENCODING", true);
            request.setObject(new HashMap<>(body));
            return ask(request, Map.of("operation", "com.microsoft:" + operation));
        }

        List<?> ask(String operation, Map<String, Object> body, String list) throws Exception {
            Message reply = ask(operation, body);
            Protocol.check(reply.getIntProperty("statusCode") == 200, operation + ": " + reply);
            return (List<?>) ((Map<?, ?>) ((ObjectMessage) reply).getObject()).get(list);
        }

        void put(String address, int seconds) throws Exception {
            String token = Protocol.call("token", "path", address, "seconds", seconds).get("token");
            Message reply = ask(session.createTextMessage(token), Map.of(
                "operation", "put-token", "type", "servicebus.windows.net:sastoken",
                "name", "amqp://localhost/" + address));
            Protocol.check(reply.getIntProperty("status-code") == 200, "the token was refused");
        }
    }

    private static org.apache.qpid.proton.message.Message decoded(Object entry) {
        Binary raw = (Binary) ((Map<?, ?>) entry).get("message");
        org.apache.qpid.proton.message.Message found = org.apache.qpid.proton.message.Message.Factory.create();
        found.decode(raw.getArray(), raw.getArrayOffset(), raw.getLength());
        return found;
    }

    private static List<?> described(Object value) {
        return (List<?>) ((DescribedType) value).getDescribed();
    }

    private static Object annotation(org.apache.qpid.proton.message.Message message, String name) {
        return message.getMessageAnnotations().getValue().get(Symbol.valueOf(name));
    }

    private static final class Feed implements AutoCloseable {
        final Map<String, String> options;
        final String id;
        final String address;
        final String filter;
        final int base;
        final Connection connection;
        final Session session;

        Feed(Map<String, String> options, int count, String mode) throws Exception {
            this.options = options;
            base = Integer.parseInt(options.get("base"));
            Map<String, String> made = Protocol.call("subscribe", "base", base);
            id = made.get("id");
            address = made.get("address");
            filter = made.get("filter");
            String token = mode.equals("anonymous") ? null : Protocol.call("token", "path", address).get("token");
            connection = connect(options, token, mode);
            session = connection.createSession(false, INDIVIDUAL);
            if (count > 0) publish(0, count);
        }

        void publish(int offset, int count) throws Exception {
            Protocol.call("publish", "base", base + offset, "count", count);
        }

        MessageConsumer consumer(String below) throws Exception {
            return session.createConsumer(session.createQueue(address + below));
        }

        Message take(MessageConsumer from) throws Exception {
            Message message = from.receive(20_000);
            Protocol.check(message != null, "no message");
            return message;
        }

        int offset(Message message) throws Exception {
            return (int) (message.getLongProperty("value") - base);
        }

        Node node() throws Exception {
            return new Node(session, address + "/$management");
        }

        void consume(MessageConsumer from, int first, int count) throws Exception {
            for (int at = 0; at < count; at++) {
                Message message = take(from);
                Protocol.check(offset(message) == first + at, "out of order");
                message.acknowledge();
            }
        }

        void settle(Message message, int outcome) throws Exception {
            message.setIntProperty("JMS_AMQP_ACK_TYPE", outcome);
            message.acknowledge();
        }

        void until(String name, int wanted) throws Exception {
            Protocol.untilState(id, name, wanted);
        }

        @Override
        public void close() throws Exception {
            connection.close();
        }
    }

    private static Connection connect(Map<String, String> options, String token, String mode)
            throws Exception {
        String plain = "failover:(amqp://localhost:" + options.get("amqp")
            + "?amqp.saslMechanisms=PLAIN)?failover.initialReconnectDelay=100&failover.reconnectDelay=200";
        String where = switch (mode) {
            case "anonymous" -> "amqp://localhost:" + options.get("amqp")
                + "?amqp.saslMechanisms=ANONYMOUS&jms.validatePropertyNames=false";
            case "settled" -> "amqp://localhost:" + options.get("amqp")
                + "?amqp.saslMechanisms=PLAIN&jms.presettlePolicy.presettleConsumers=true";
            case "shared" -> "amqp://localhost:" + options.get("amqp")
                + "?amqp.saslMechanisms=PLAIN&jms.prefetchPolicy.all=20";
            case "websocket-plain" -> "amqpws://localhost:" + options.get("http")
                + "/$servicebus/websocket?amqp.saslMechanisms=PLAIN";
            case "tls" -> "amqps://localhost:" + options.get("amqps");
            case "websocket" -> "amqpwss://localhost:" + options.get("https") + "/$servicebus/websocket";
            default -> plain;
        };
        JmsConnectionFactory factory =
            token == null ? new JmsConnectionFactory(where) : new JmsConnectionFactory("any", token, where);
        if (mode.equals("tls") || mode.equals("websocket")) {
            factory.setSslContext(Protocol.trust(options.get("ca")));
        }
        Connection made = factory.createConnection();
        made.start();
        return made;
    }

    private static Protocol.Scenario on(int count, String mode, Step step) {
        return options -> {
            try (Feed feed = new Feed(options, count, mode)) {
                step.run(feed);
            }
        };
    }

    private static Protocol.Scenario disturbed(String command) {
        return on(3, "plain", feed -> {
            MessageConsumer consumer = feed.consumer("");
            feed.consume(consumer, 0, 3);
            feed.until("backlog", 0);
            Protocol.call(command);
            feed.publish(3, 3);
            feed.consume(consumer, 3, 3);
            feed.until("backlog", 0);
        });
    }

    private static void bury(Feed feed) throws Exception {
        MessageConsumer consumer = feed.consumer("");
        feed.settle(feed.take(consumer), REJECTED);
        feed.until("dead", 1);
        feed.until("backlog", 0);
    }

    private static void defer(Feed feed) throws Exception {
        feed.settle(feed.take(feed.consumer("")), MODIFIED_FAILED_UNDELIVERABLE);
        feed.until("deferred", 1);
        Node node = feed.node();
        Object found = node.ask("peek-message", Map.of("from-sequence-number", 0L, "message-count", 1), "messages").get(0);
        Map<String, Object> wanted = Map.of(
            "sequence-numbers", List.of(annotation(decoded(found), "x-opt-sequence-number")),
            "receiver-settle-mode", 1);
        Map<?, ?> got = (Map<?, ?>) node.ask("receive-by-sequence-number", wanted, "messages").get(0);
        Object value = decoded(got).getApplicationProperties().getValue().get("value");
        Protocol.check(((Number) value).intValue() == feed.base, "another message");
        List<?> tokens = List.of(got.get("lock-token"));
        Message done = node.ask("update-disposition", Map.of("disposition-status", "completed", "lock-tokens", tokens));
        Protocol.check(done.getIntProperty("statusCode") == 200, "not completed");
        feed.until("backlog", 0);
        Message none = node.ask("receive-by-sequence-number", wanted);
        Protocol.check(none.getIntProperty("statusCode") == 404, "it is found again");
    }

    private static void peek(Feed feed) throws Exception {
        Node node = feed.node();
        List<?> found = node.ask("peek-message", Map.of("from-sequence-number", 0L, "message-count", 10), "messages");
        Protocol.check(found.size() == 5, found.size() + " peeked");
        long last = (Long) annotation(decoded(found.get(4)), "x-opt-sequence-number");
        Message more = node.ask("peek-message", Map.of("from-sequence-number", last + 1, "message-count", 1));
        Protocol.check(more.getIntProperty("statusCode") == 204, "there is more");
        feed.until("backlog", 5);
    }

    private static void listRules(Feed feed) throws Exception {
        Node node = feed.node();
        List<?> found = node.ask("enumerate-rules", Map.of("top", 100, "skip", 0), "rules");
        Protocol.check(found.size() == 1, found.size() + " rules");
        // A described list: its filter, action and name.
        List<?> rule = described(((Map<?, ?>) found.get(0)).get("rule-description"));
        Protocol.check(feed.filter.equals(described(rule.get(0)).get(0)), "another filter");
        Protocol.check("$Default".equals(rule.get(2)), "another name");
        Message added = node.ask("add-rule", Map.of("rule-name", "mine"));
        Protocol.check(added.getIntProperty("statusCode") == 501, "a rule was added");
    }

    private static void renewTokens(Feed feed) throws Exception {
        Node cbs = new Node(feed.session, "$cbs");
        cbs.put(feed.address, 3);
        MessageConsumer consumer = feed.consumer("");
        for (int at = 0; at < 6; at++) {
            feed.publish(at, 1);
            feed.consume(consumer, at, 1);
            Thread.sleep(1000);
            cbs.put(feed.address, 3);
        }
        feed.until("backlog", 0);
    }

    private static void outliveToken(Feed feed) throws Exception {
        Node cbs = new Node(feed.session, "$cbs");
        cbs.put(feed.address, 2);
        MessageConsumer consumer = feed.consumer("");
        feed.publish(0, 1);
        feed.consume(consumer, 0, 1);
        Protocol.check(endOf(consumer).contains("unauthorized-access"), endOf(consumer));
        cbs.put(feed.address, 60);
        feed.publish(1, 1);
        feed.consume(feed.consumer(""), 1, 1);
    }

    /** Why a consumer was closed by the service. */
    private static String endOf(MessageConsumer consumer) throws Exception {
        long end = System.currentTimeMillis() + 15_000;
        while (System.currentTimeMillis() < end) {
            try {
                consumer.receive(1_000);
            } catch (JMSException error) {
                return error + " " + error.getCause();
            }
        }
        return "nothing was told";
    }

    private static void resume(Feed feed) throws Exception {
        MessageConsumer consumer = feed.consumer("");
        feed.consume(consumer, 0, 3);
        feed.until("backlog", 0);
        Protocol.call("detach", "address", feed.address);
        Protocol.check(endOf(consumer).contains("detached on purpose"), endOf(consumer));
        feed.publish(3, 3);
        feed.consume(feed.consumer(""), 3, 3);
        feed.until("backlog", 0);
    }

    private static void receiveByTen(Feed feed) throws Exception {
        List<MessageConsumer> consumers = new ArrayList<>();
        for (int number = 0; number < 10; number++) consumers.add(feed.consumer(""));
        feed.until("receivers", 10);
        feed.publish(0, 200);
        Set<Integer> seen = new HashSet<>();
        long end = System.currentTimeMillis() + 20_000;
        while (seen.size() < 200 && System.currentTimeMillis() < end) {
            for (MessageConsumer consumer : consumers) {
                Message message = consumer.receive(20);
                if (message == null) continue;
                Protocol.check(seen.add(feed.offset(message)), "twice");
                message.acknowledge();
            }
        }
        Protocol.check(seen.size() == 200, seen.size() + " of 200");
        feed.until("backlog", 0);
    }

    private static void receiveFromThousand(Map<String, String> options) throws Exception {
        String ids = Protocol.call("subscribeMany", "base", options.get("base"), "count", 1000).get("ids");
        String token = Protocol.call("token", "path", "variables/Subscriptions").get("token");
        try (Connection connection = connect(options, token, "settled")) {
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            List<MessageConsumer> consumers = new ArrayList<>();
            for (String id : ids.split(",")) {
                consumers.add(session.createConsumer(session.createQueue("variables/Subscriptions/" + id)));
            }
            Protocol.call("publish", "base", options.get("base"));
            for (MessageConsumer consumer : consumers) {
                Protocol.check(consumer.receive(20_000) != null, "a message is missing");
            }
        }
    }

    private static Protocol.Scenario sending(int count, String body, int... order) {
        return on(0, "plain", feed -> {
            String token = Protocol.call("publisher").get("token");
            try (Connection connection = connect(feed.options, token, "plain")) {
                Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
                Queue topic = session.createQueue("variables");
                MessageProducer producer = session.createProducer(topic);
                for (int offset = 0; offset < count; offset++) {
                    BytesMessage message = session.createBytesMessage();
                    message.writeBytes(body.getBytes());
                    message.setLongProperty("value", feed.base + offset);
                    producer.send(message);
                }
            }
            MessageConsumer consumer = feed.consumer("");
            for (int expected : order) {
                BytesMessage message = (BytesMessage) feed.take(consumer);
                Protocol.check(feed.offset(message) == expected, "out of order");
                Protocol.check(message.getBodyLength() == body.length(), "it has changed");
                message.acknowledge();
            }
            feed.until("backlog", 0);
        });
    }

    private static Map<String, Protocol.Scenario> scenarios() {
        Map<String, Protocol.Scenario> all = new LinkedHashMap<>();
        Step two = feed -> {
            feed.consume(feed.consumer(""), 0, 2);
            feed.until("backlog", 0);
        };
        all.put("complete", on(3, "plain", feed -> {
            feed.consume(feed.consumer(""), 0, 3);
            feed.until("backlog", 0);
        }));
        all.put("abandon", on(1, "plain", feed -> {
            MessageConsumer consumer = feed.consumer("");
            feed.settle(feed.take(consumer), MODIFIED_FAILED);
            Message again = feed.take(consumer);
            Protocol.check(again.getIntProperty("JMSXDeliveryCount") == 2, "delivery count");
            feed.settle(again, RELEASED);
            feed.take(consumer).acknowledge();
            feed.until("backlog", 0);
        }));
        all.put("defer", on(1, "plain", JmsClients::defer));
        all.put("peek", on(5, "plain", JmsClients::peek));
        all.put("rules", on(0, "plain", JmsClients::listRules));
        all.put("token renewal", on(0, "anonymous", JmsClients::renewTokens));
        all.put("token expiry", on(0, "anonymous", JmsClients::outliveToken));
        all.put("reconnect after a detach", on(3, "plain", JmsClients::resume));
        all.put("ten receivers", on(0, "shared", JmsClients::receiveByTen));
        all.put("a thousand subscriptions", JmsClients::receiveFromThousand);
        all.put("receive and delete", on(3, "settled", feed -> {
            MessageConsumer consumer = feed.consumer("");
            for (int at = 0; at < 3; at++) Protocol.check(feed.offset(feed.take(consumer)) == at, "out of order");
            feed.until("backlog", 0);
        }));
        all.put("dead-letter", on(1, "plain", JmsClients::bury));
        all.put("dead-letter queue", on(1, "plain", feed -> {
            bury(feed);
            Message letter = feed.take(feed.consumer("/$DeadLetterQueue"));
            Protocol.check(letter.getStringProperty("DeadLetterReason") != null, "no reason");
            letter.acknowledge();
            feed.until("dead", 0);
        }));
        all.put("stream", on(0, "plain", feed -> {
            MessageConsumer consumer = feed.consumer("");
            for (int start = 0; start < 20; start += 10) {
                feed.publish(start, 10);
                feed.consume(consumer, start, 10);
            }
            feed.until("backlog", 0);
        }));
        all.put("reconnect after a close", disturbed("close"));
        all.put("reconnect after a restart", disturbed("restart"));
        all.put("send", sending(1, "{}", 0));
        all.put("send 900 KB", sending(1, "L".repeat(900_000), 0));
        all.put("TLS", on(2, "tls", two));
        all.put("WebSocket", on(2, "websocket", two));
        all.put("WebSocket without TLS", on(2, "websocket-plain", two));
        all.put("prefetch", on(0, "plain", feed -> {
            feed.publish(0, 200);
            feed.consume(feed.consumer(""), 0, 200);
            feed.until("backlog", 0);
        }));
        return all;
    }

    private JmsClients() {}

    public static void main(String[] arguments) throws Exception {
        Protocol.serve(scenarios());
    }
}
